/** Whether the receivers of audit records can be reached, for `deputy check --online`. Nothing is sent to them. */
import { once } from 'node:events'
import { stat } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { dirname, resolve } from 'node:path'
import { connect as connectTls } from 'node:tls'
import { type AuditSinkSettings, type Problem, type Settings, SETTINGS_FILE } from '#config'
import { DeputyError } from '#errors'
import { fileFailure, readTlsFiles } from '#foundation/files'
import { connectionProblem, createConnectionGuard, NAMED_BY_SETTINGS } from '#foundation/outbound'

/** How long a receiver may take to accept a connection, with TLS (ms). */
const CONNECT_WAIT_MS = 5000

interface Receiver {
  readonly host: string
  readonly port: number
  /** Undefined: without TLS. */
  readonly tls: Parameters<typeof readTlsFiles>[1] | undefined
}

const receiverOf = (sink: AuditSinkSettings): Receiver | undefined => {
  if (sink.kind === 'http' || sink.kind === 'otlp') {
    const { protocol, hostname, port } = new URL(sink.url)
    const isTls = protocol === 'https:'
    return {
      host: hostname.replace(/^\[|\]$/g, ''),
      port: port === '' ? (isTls ? 443 : 80) : Number(port),
      tls: isTls ? (sink.tls ?? {}) : undefined,
    }
  }
  if (sink.kind !== 'syslog' || sink.address === undefined) return undefined
  const { tls } = sink
  return { ...sink.address, tls: tls === false ? undefined : tls === true ? {} : tls }
}

const open = async ({ host, port, tls }: Receiver, home: string): Promise<Socket> => {
  const guard = createConnectionGuard(NAMED_BY_SETTINGS)
  guard.assertReachable(new URL(`https://${host.includes(':') ? `[${host}]` : host}:${port}/`))
  const { lookup } = guard
  if (tls === undefined) return connect({ host, port, lookup })
  return connectTls({ host, port, lookup, minVersion: 'TLSv1.2', ...(await readTlsFiles(home, tls)) })
}

/** @throws Error where the receiver does not accept a connection in time */
const reach = async (receiver: Receiver, home: string): Promise<void> => {
  const socket = await open(receiver, home)
  try {
    const event = receiver.tls === undefined ? 'connect' : 'secureConnect'
    await once(socket, event, { signal: AbortSignal.timeout(CONNECT_WAIT_MS) })
  } finally {
    socket.on('error', () => undefined).destroy()
  }
}

/** The file or folder that has to be there for a sink on this machine. */
const placeOf = (sink: AuditSinkSettings, home: string): string | undefined => {
  if (sink.kind === 'file') return dirname(resolve(home, sink.path))
  if (sink.kind === 'segments') return sink.folder === undefined ? undefined : resolve(home, sink.folder)
  return sink.kind === 'syslog' && sink.socket !== undefined ? resolve(home, sink.socket) : undefined
}

const wordsFor = (error: unknown): string => {
  if (error instanceof DeputyError) return error.message.replace(/\.$/, '')
  if ((error as Error).name === 'AbortError') return `it did not accept a connection within ${CONNECT_WAIT_MS / 1000} s`
  return connectionProblem(error) ?? fileFailure(error)?.problem ?? (error as Error).message
}

/** Buckets are not called: that takes the credentials of the daemon. */
const problemOf = async (sink: AuditSinkSettings, home: string): Promise<string | undefined> => {
  const [receiver, place] = [receiverOf(sink), placeOf(sink, home)]
  try {
    if (receiver !== undefined) await reach(receiver, home)
    if (place !== undefined) await stat(place)
    return undefined
  } catch (error) {
    return wordsFor(error)
  }
}

/** A problem for each sink that cannot be reached now. */
export const sinkProblems = async ({ audit }: Pick<Settings, 'audit'>, home: string): Promise<Problem[]> => {
  const judged = await Promise.all(audit.sinks.map(async (sink) => ({ sink, problem: await problemOf(sink, home) })))
  return judged.flatMap(({ sink: { name, required }, problem }) =>
    problem === undefined
      ? []
      : [
          {
            file: SETTINGS_FILE,
            line: 1,
            message: `audit.sinks: ${name} cannot be reached: ${problem}.`,
            fix: required
              ? 'Nothing is issued until it confirms records: repair the receiver, or correct the sink.'
              : 'Its records wait until it can be reached: repair the receiver, or correct the sink.',
          },
        ],
  )
}
