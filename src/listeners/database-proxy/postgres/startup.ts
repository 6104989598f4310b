import { BrokenConnection, type Reader } from '../reader.ts'

/** https://www.postgresql.org/docs/current/protocol-message-formats.html */
const [SSL_REQUEST, GSSENC_REQUEST, CANCEL_REQUEST] = [80_877_103, 80_877_104, 80_877_102]
/** As the server has it (src/include/libpq/pqcomm.h). */
const MAX_STARTUP_BYTES = 10_000
/** One for each kind of encryption. */
const MAX_ENCRYPTION_REQUESTS = 2
export const PROTOCOL_3_0 = 3 << 16

export interface StartupMessage {
  readonly kind: 'startup'
  readonly parameters: ReadonlyMap<string, string>
  /** What we do not speak: a newer minor version, protocol extensions. */
  readonly minor: number
  readonly extensions: readonly string[]
}
export interface CancelMessage {
  readonly kind: 'cancel'
  readonly process: number
  readonly key: number
}

const decoder = new TextDecoder('utf-8', { fatal: true })

/** The names and values of a startup message. @throws BrokenConnection */
export const parseParameters = (body: Uint8Array): Map<string, string> => {
  const parameters = new Map<string, string>()
  let text: string
  try {
    text = decoder.decode(body)
  } catch {
    throw new BrokenConnection('the startup message is not UTF-8')
  }
  const parts = text.split('\0')
  // Pairs, each part ended by a zero, and a zero after them.
  if (parts.length < 2 || parts.at(-1) !== '' || parts.at(-2) !== '' || parts.length % 2 !== 0)
    throw new BrokenConnection('the startup message is not made of names and values')
  for (let at = 0; at < parts.length - 2; at += 2) {
    const [name, value] = [parts[at]!, parts[at + 1]!]
    if (name === '' || parameters.has(name))
      throw new BrokenConnection('a name in the startup message is empty or repeated')
    parameters.set(name, value)
  }
  return parameters
}

/**
 * Reads what a client begins with. A request for encryption is declined: the connection is a Unix socket and does not leave the machine.
 * @throws BrokenConnection
 */
export const readStartup = async (
  reader: Reader,
  answer: (bytes: Buffer) => void,
): Promise<StartupMessage | CancelMessage> => {
  for (let requests = 0; requests <= MAX_ENCRYPTION_REQUESTS; requests += 1) {
    const length = (await reader.take(4)).readInt32BE()
    if (length < 8 || length > MAX_STARTUP_BYTES)
      throw new BrokenConnection('the startup message is too short or too long')
    const body = await reader.take(length - 4)
    const code = body.readInt32BE()
    if (code === SSL_REQUEST || code === GSSENC_REQUEST) {
      answer(Buffer.from('N'))
      continue
    }
    if (code === CANCEL_REQUEST) {
      if (length !== 16) throw new BrokenConnection('the cancel request has the wrong length')
      return { kind: 'cancel', process: body.readInt32BE(4), key: body.readInt32BE(8) }
    }
    if (code >> 16 !== 3) throw new BrokenConnection('the protocol is not version 3')
    const parameters = parseParameters(body.subarray(4))
    const extensions = [...parameters.keys()].filter((name) => name.startsWith('_pq_.'))
    for (const name of extensions) parameters.delete(name)
    return { kind: 'startup', parameters, minor: code & 0xffff, extensions }
  }
  throw new BrokenConnection('encryption was requested too often')
}
