import type { Socket } from 'node:net'
import type { Random } from '#clock'
import type { DownstreamOf } from '#config'
import { DeputyError, refuse } from '#errors'
import { readLogin } from '#flows/rotation'
import { Secret } from '#foundation/crypto'
import { dial, secure, unreachable, type DatabaseAddress, type DialOptions } from '../dial.ts'
import { createReader, type Reader } from '../reader.ts'
import {
  cancelRequest,
  message,
  parseError,
  readMessage,
  saslInitial,
  saslResponse,
  sslRequest,
  startup,
} from './messages.ts'
import { createScram } from './scram.ts'

export type PostgresAddress = Omit<NonNullable<DownstreamOf<'static'>['postgres']>, 'only'>

/** A session at the server, logged in and ready for the first query. */
export interface LoggedIn {
  readonly socket: Socket
  /** The server's messages since the login, ready for the client, without the key below. */
  readonly greeting: Buffer
  /** What came after it. */
  readonly rest: Buffer
  /** With which its queries are cancelled; undefined where the server gives none. */
  readonly key: { readonly process: number; readonly key: number } | undefined
}

/** invalid_password, invalid_authorization_specification: the login is not right, or not any more. */
const REJECTED_STATES = new Set(['28P01', '28000'])
/** What a client may not choose: its user and database; and replication, which reads past what the login may. */
const OWN_PARAMETERS = new Set(['user', 'database', 'replication'])
const MECHANISM = 'SCRAM-SHA-256'
/** Types of authentication requests that are not SASL, in words. */
const UNSUPPORTED_METHODS: Readonly<Record<number, string>> = {
  0: 'no password at all',
  3: 'the password in clear',
  5: 'MD5',
}

/** @throws Error of the network or of TLS, BrokenConnection */
const reach = async (address: DatabaseAddress, options: DialOptions): Promise<Socket> => {
  const socket = await dial(address, options)
  if (address.tls === false) return socket
  const reader = createReader(socket)
  socket.write(sslRequest)
  const timer = setTimeout(() => {
    socket.destroy()
  }, options.timeout)
  const answer = (
    await reader.take(1).finally(() => {
      clearTimeout(timer)
    })
  ).toString('latin1')
  // Bytes that came with the answer, before TLS, are not authenticated (CVE-2021-23222).
  const early = reader.release()
  if (answer !== 'S' || early.length > 0) {
    socket.destroy()
    throw Object.assign(new Error('no TLS'), { code: 'it does not speak TLS, and `tls` is not false' })
  }
  return secure(socket, address, options)
}

/** A connection whose login is under way. */
interface Login {
  readonly socket: Socket
  readonly reader: Reader
  readonly refused: (problem: string, cause?: unknown) => DeputyError
}

/** Proves the password with SCRAM, and has the server prove that it knows it. @throws DeputyError, BrokenConnection */
const authenticate = async (
  { socket, reader, refused }: Login,
  credentials: { readonly password: Secret; readonly nonce: string },
): Promise<void> => {
  const scram = createScram({ username: '', ...credentials })
  for (let step = 'begin'; ;) {
    const { type, body } = await readMessage(reader)
    if (type === 'E') throw refused(wordsOf(parseError(body)))
    if (type !== 'R' || body.length < 4) throw refused('it answered the login with what is no answer')
    const kind = body.readInt32BE()
    const data = body.subarray(4)
    if (kind === 10 && step === 'begin') {
      const mechanisms = data.toString('latin1').split('\0')
      if (!mechanisms.includes(MECHANISM)) throw refused(`it does not offer ${MECHANISM}`)
      socket.write(saslInitial(MECHANISM, scram.first()))
      step = 'first'
    } else if (kind === 11 && step === 'first') {
      try {
        socket.write(saslResponse(await scram.final(data.toString('utf8'))))
      } catch (error) {
        throw refused((error as Error).message, error)
      }
      step = 'final'
    } else if (kind === 12 && step === 'final') {
      try {
        scram.verify(data.toString('utf8'))
      } catch (error) {
        throw refused((error as Error).message, error)
      }
      step = 'verified'
    } else if (kind === 0 && step === 'verified') return
    // A server that requires less than a proof is not authenticated, or would see the password.
    else
      throw refused(
        `it asks for ${UNSUPPORTED_METHODS[kind] ?? `authentication of type ${kind}`}; only ${MECHANISM} is spoken (password_encryption = 'scram-sha-256')`,
      )
  }
}

/** No value of the credential is in it: the server names the user at most. */
const wordsOf = (fields: ReadonlyMap<string, string>): string =>
  `${(fields.get('M') ?? 'no reason given').slice(0, 200)} (${fields.get('C') ?? 'no code'})`

/** Reads until the server is ready. */
const greetingOf = async (
  reader: Reader,
  refused: (problem: string) => DeputyError,
): Promise<Omit<LoggedIn, 'socket' | 'rest'>> => {
  const parts: Buffer[] = []
  let key: LoggedIn['key']
  for (;;) {
    const { type, body } = await readMessage(reader)
    if (type === 'E') throw refused(wordsOf(parseError(body)))
    if (type === 'K' && body.length === 8) {
      key = { process: body.readInt32BE(), key: body.readInt32BE(4) }
      continue
    }
    parts.push(message(type, body))
    if (type === 'Z') return { greeting: Buffer.concat(parts), key }
  }
}

/**
 * Logs in at a PostgreSQL server with SCRAM-SHA-256 only, over TLS unless its file says otherwise.
 * @param parameters of the client's startup message; user and database are replaced
 * @throws DeputyError `database_unreachable`, `database_refused` also when the login was rotated since it was read; see `isLoginRejected`
 */
export const logIn = async (
  credential: Secret,
  target: { downstream: string; address: PostgresAddress; parameters: ReadonlyMap<string, string> },
  options: DialOptions & { random: Random },
): Promise<LoggedIn> => {
  const { downstream, address } = target
  const refused = (problem: string, cause?: unknown): DeputyError =>
    refuse('database_refused', { kind: 'postgres', downstream, problem }, cause)
  let login
  try {
    login = readLogin(credential)
  } catch (error) {
    throw refused((error as Error).message)
  }
  let socket: Socket | undefined
  let timer: NodeJS.Timeout | undefined
  try {
    const reached = (socket = await reach(address, options))
    timer = setTimeout(() => {
      reached.destroy()
    }, options.timeout)
    const reader = createReader(reached)
    reached.write(
      startup({
        ...Object.fromEntries([...target.parameters].filter(([name]) => !OWN_PARAMETERS.has(name))),
        user: login.username,
        database: address.database,
      }),
    )
    await authenticate(
      { socket: reached, reader, refused },
      {
        password: new Secret(login.password),
        nonce: Buffer.from(options.random.bytes(18)).toString('base64'),
      },
    )
    const greeted = await greetingOf(reader, refused)
    return { ...greeted, socket: reached, rest: reader.release() }
  } catch (error) {
    socket?.destroy()
    throw error instanceof DeputyError ? error : unreachable('postgres', downstream, error)
  } finally {
    clearTimeout(timer)
  }
}

/** Whether the server has said that the login is not right: it may have been rotated since it was read. */
export const isLoginRejected = (error: unknown): boolean =>
  error instanceof DeputyError &&
  error.code === 'database_refused' &&
  [...REJECTED_STATES].some((code) => String(error.facts['problem']).endsWith(`(${code})`))

/** Requests the server to cancel the query of a session; it answers nothing. */
export const cancel = async (
  address: PostgresAddress,
  key: NonNullable<LoggedIn['key']>,
  options: DialOptions,
): Promise<void> => {
  const socket = await reach(address, options)
  socket.on('error', () => undefined)
  socket.setTimeout(options.timeout, () => {
    socket.destroy()
  })
  // The server closes when it is done: then the client may continue.
  await new Promise<void>((resolve) => {
    socket.once('close', () => {
      resolve()
    })
    socket.resume()
    socket.end(cancelRequest(key.process, key.key))
  })
}
