import { connect, isIP, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { type DeputyError, refuse } from '#errors'
import { readTlsFiles, type TlsFiles } from '#foundation/files'
import { BrokenConnection } from './reader.ts'

/** Address of a database, from its downstream's file. */
export interface DatabaseAddress {
  readonly host: string
  readonly port: number
  readonly tls: boolean | TlsFiles
}

export interface DialOptions {
  /** The configuration folder: the paths of certificates begin there. */
  readonly home: string
  /** ms for each part of the way. */
  readonly timeout: number
}

/** A failure on the way to a database, as a refusal. */
export const unreachable = (kind: string, downstream: string, error: unknown): DeputyError =>
  refuse(
    'database_unreachable',
    {
      kind,
      downstream,
      problem:
        error instanceof BrokenConnection
          ? error.message
          : ((error as NodeJS.ErrnoException).code ?? 'it did not answer'),
      seconds: 1,
    },
    error,
  )

const opened = (socket: Socket, event: 'connect' | 'secureConnect', timeout: number): Promise<void> =>
  new Promise((resolvePromise, reject) => {
    const timer = setTimeout(() => {
      socket.destroy(Object.assign(new Error('timed out'), { code: 'ETIMEDOUT' }))
    }, timeout)
    socket.once(event, () => {
      clearTimeout(timer)
      socket.off('error', reject)
      resolvePromise()
    })
    socket.once('error', (error) => {
      clearTimeout(timer)
      reject(error)
    })
  })

/** @throws Error of the network */
export const dial = async ({ host, port }: DatabaseAddress, { timeout }: DialOptions): Promise<Socket> => {
  const socket = connect({ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 })
  await opened(socket, 'connect', timeout)
  return socket
}

/** The caller learns no path of the daemon's files; the log has the cause. */
const unreadable = (cause: unknown): never => {
  throw Object.assign(new Error('the files of its TLS settings cannot be read', { cause }), { code: 'config_invalid' })
}

/** Goes over to TLS, and is sure of the other side's name and certificate. @throws Error of TLS; the socket is closed then */
export const secure = async (
  socket: Socket,
  { host, tls }: DatabaseAddress,
  { home, timeout }: DialOptions,
): Promise<Socket> => {
  try {
    const files = typeof tls === 'object' ? await readTlsFiles(home, tls).catch(unreadable) : {}
    const secured = connectTls({
      socket,
      host,
      ...(isIP(host) === 0 ? { servername: host } : {}),
      ...files,
      minVersion: 'TLSv1.2',
      rejectUnauthorized: true,
    })
    await opened(secured, 'secureConnect', timeout)
    return secured
  } catch (error) {
    socket.destroy()
    throw error
  }
}
