import type { Socket } from 'node:net'
import type { DownstreamOf } from '#config'
import { DeputyError, refuse } from '#errors'
import { readLogin } from '#flows/rotation'
import type { Secret } from '#foundation/crypto'
import { dial, secure, unreachable, type DialOptions } from '../dial.ts'
import { createReader } from '../reader.ts'

export type RedisAddress = Omit<NonNullable<DownstreamOf<'static'>['redis']>, 'only'>

/** An answer to AUTH is a word or a sentence (bytes). */
const MAX_ANSWER_BYTES = 1024
/** https://redis.io/docs/latest/commands/auth/ */
const REJECTED_WORD = 'WRONGPASS'

/** A command as an array of bulk strings: https://redis.io/docs/latest/develop/reference/protocol-spec/ */
export const command = (...parts: readonly string[]): string =>
  `*${parts.length}\r\n${parts.map((part) => `$${Buffer.byteLength(part)}\r\n${part}\r\n`).join('')}`

/** A session at the server, logged in. */
export interface LoggedIn {
  readonly socket: Socket
  /** What came after the answer to the login. */
  readonly rest: Buffer
}

/**
 * Logs in at a Redis server, over TLS unless its file says otherwise.
 * @throws DeputyError `database_unreachable`, `database_refused`
 */
export const logIn = async (
  credential: Secret,
  { downstream, address }: { downstream: string; address: RedisAddress },
  options: DialOptions,
): Promise<LoggedIn> => {
  const refused = (problem: string): DeputyError => refuse('database_refused', { kind: 'redis', downstream, problem })
  let login
  try {
    login = readLogin(credential)
  } catch (error) {
    throw refused((error as Error).message)
  }
  let socket: Socket | undefined
  let timer: NodeJS.Timeout | undefined
  try {
    socket = await dial(address, options)
    if (address.tls !== false) socket = await secure(socket, address, options)
    const reached = socket
    timer = setTimeout(() => {
      reached.destroy()
    }, options.timeout)
    const reader = createReader(reached)
    reached.write(command('AUTH', login.username, login.password))
    const answer = await reader.line(MAX_ANSWER_BYTES)
    if (answer !== '+OK')
      throw refused(answer.startsWith('-') ? answer.slice(1, 200) : 'its answer to AUTH is not one of the protocol')
    return { socket: reached, rest: reader.release() }
  } catch (error) {
    socket?.destroy()
    throw error instanceof DeputyError ? error : unreachable('redis', downstream, error)
  } finally {
    clearTimeout(timer)
  }
}

/** Whether the server has said that the login is not right: it may have been rotated since it was read. */
export const isLoginRejected = (error: unknown): boolean =>
  error instanceof DeputyError &&
  error.code === 'database_refused' &&
  String(error.facts['problem']).startsWith(REJECTED_WORD)
