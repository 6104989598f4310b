import { BrokenConnection, type Reader } from '../reader.ts'
import { PROTOCOL_3_0 } from './startup.ts'

/** A message of the server or of a client after its startup: https://www.postgresql.org/docs/current/protocol-message-formats.html */
export interface Message {
  readonly type: string
  readonly body: Buffer
}

/** Nothing that is read before the first query is longer (bytes). */
const MAX_MESSAGE_BYTES = 1_048_576

const int32 = (...values: number[]): Buffer => {
  const bytes = Buffer.alloc(4 * values.length)
  for (const [at, value] of values.entries()) bytes.writeInt32BE(value, 4 * at)
  return bytes
}
const text = (value: string): Buffer => Buffer.from(`${value.replaceAll('\0', '')}\0`, 'utf8')

/** @throws BrokenConnection */
export const readMessage = async (reader: Reader): Promise<Message> => {
  const head = await reader.take(5)
  const length = head.readInt32BE(1)
  if (length < 4 || length > MAX_MESSAGE_BYTES) throw new BrokenConnection('a message is too short or too long')
  return { type: String.fromCharCode(head[0]!), body: await reader.take(length - 4) }
}

export const message = (type: string, ...parts: readonly Buffer[]): Buffer => {
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.from(type, 'latin1'), int32(body.length + 4), body])
}

export const startup = (parameters: Readonly<Record<string, string>>): Buffer => {
  const body = Buffer.concat([
    int32(PROTOCOL_3_0),
    ...Object.entries(parameters).flatMap(([name, value]) => [text(name), text(value)]),
    Buffer.alloc(1),
  ])
  return Buffer.concat([int32(body.length + 4), body])
}
export const sslRequest = int32(8, 80_877_103)
export const cancelRequest = (process: number, key: number): Buffer => int32(16, 80_877_102, process, key)
export const saslInitial = (mechanism: string, response: string): Buffer =>
  message('p', text(mechanism), int32(Buffer.byteLength(response)), Buffer.from(response))
export const saslResponse = (response: string): Buffer => message('p', Buffer.from(response))

export const authenticationOk = message('R', int32(0))
export const backendKeyData = (process: number, key: number): Buffer => message('K', int32(process, key))
/** The newest version that is spoken here, as the server writes it, and the extensions that are not known. */
export const negotiateVersion = (extensions: readonly string[]): Buffer =>
  message('v', int32(PROTOCOL_3_0, extensions.length), ...extensions.map(text))

/** Fields of an error: https://www.postgresql.org/docs/current/protocol-error-fields.html */
export const errorResponse = (fields: { code: string; message: string; hint: string; detail: string }): Buffer =>
  message(
    'E',
    ...Object.entries({
      S: 'FATAL',
      V: 'FATAL',
      C: fields.code,
      M: fields.message,
      D: fields.detail,
      H: fields.hint,
    }).map(([name, value]) => Buffer.concat([Buffer.from(name), text(value)])),
    Buffer.alloc(1),
  )

/** The fields of an error that the server has sent. */
export const parseError = (body: Buffer): Map<string, string> =>
  new Map(
    body
      .toString('utf8')
      .split('\0')
      .filter((field) => field !== '')
      .map((field) => [field.slice(0, 1), field.slice(1)]),
  )
