import { Agent, request, type IncomingMessage } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { DeputyClientError } from './error.ts'

/** Where Deputy's local API is: a Unix socket, or a loopback port. */
export type Address = { readonly socketPath: string } | { readonly host: string; readonly port: number }

export interface Answer {
  readonly status: number
  readonly body: Readonly<Record<string, unknown>>
  readonly warning: string | undefined
  readonly retryAfter: number | undefined
  readonly correlationId: string | undefined
}

const LARGEST = 1_048_576
const FIRST_PAUSE = 50
const LONGEST_PAUSE = 1000
/** Nobody was there, or went away: the daemon may be restarting. A request for a token may be sent again. */
const AWAY = new Set(['ECONNREFUSED', 'ENOENT', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT'])

const shown = (address: Address): string =>
  'socketPath' in address ? address.socketPath : `${address.host}:${address.port}`

const read = async (response: IncomingMessage): Promise<string> => {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > LARGEST) throw new Error('the answer is too long')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

const header = (response: IncomingMessage, name: string): string | undefined => {
  const value = response.headers[name]
  return Array.isArray(value) ? value[0] : value
}

const parse = (text: string): Record<string, unknown> | undefined => {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined
  } catch {
    return undefined
  }
}

/**
 * Sends forms to Deputy, and sends them again while it is away or says that now is not the time, for as long as
 * `patience` (ms); an answer may take `timeout` (ms).
 */
export const createWire = (options: { address: Address; patience: number; timeout: number }) => {
  const { address, patience, timeout } = options
  const agent = new Agent({ keepAlive: true, maxSockets: 32 })

  const once = (
    path: string,
    form: URLSearchParams,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const body = form.toString()
      const outgoing = request(
        {
          ...address,
          path,
          method: 'POST',
          agent,
          signal,
          headers: {
            host: 'socketPath' in address ? 'localhost' : `${address.host}:${address.port}`,
            'content-type': 'application/x-www-form-urlencoded',
            'content-length': Buffer.byteLength(body),
            ...headers,
          },
        },
        (response) => {
          read(response)
            .then((text) => {
              const parsed = parse(text)
              if (parsed === undefined) reject(new Error(`it answered ${response.statusCode} with what is no JSON`))
              else
                resolve({
                  status: response.statusCode ?? 0,
                  body: parsed,
                  warning: header(response, 'warning'),
                  retryAfter: Number(header(response, 'retry-after')) || undefined,
                  correlationId: header(response, 'x-correlation-id'),
                })
            })
            .catch(reject)
        },
      )
      outgoing.on('error', reject)
      outgoing.end(body)
    })

  const late = (error: unknown): DeputyClientError =>
    new DeputyClientError(
      {
        reason: 'timeout',
        error: 'temporarily_unavailable',
        message: `Deputy has not answered within ${timeout / 1000} seconds.`,
        next: 'A provider or a vault may be slow (deputy status); set timeout of connectDeputy.',
        retryAfter: 1,
      },
      { cause: error },
    )

  const unreachable = (error: unknown): DeputyClientError => {
    const code = (error as NodeJS.ErrnoException).code
    const next =
      code === 'EACCES'
        ? 'This user may not open the socket: ask for `listen.socket_mode` and `listen.socket_group` in deputy.yaml.'
        : 'Look whether the daemon runs (deputy status), and set DEPUTY_SOCKET to the path of its socket.'
    return new DeputyClientError(
      {
        reason: 'unreachable',
        error: 'temporarily_unavailable',
        message: `Deputy could not be reached at ${shown(address)} (${code ?? (error as Error).message}).`,
        next,
        retryAfter: 1,
      },
      { cause: error },
    )
  }

  return {
    /** @param form made anew for each attempt: what proves who calls may count once. @throws DeputyClientError `unreachable` */
    async post(
      path: string,
      form: () => URLSearchParams,
      headers: Readonly<Record<string, string>> = {},
      signal?: AbortSignal,
    ): Promise<Answer> {
      const until = performance.now() + patience
      for (let pause = FIRST_PAUSE; ; pause = Math.min(LONGEST_PAUSE, pause * 2)) {
        const left = until - performance.now()
        let answer: Answer | undefined
        try {
          answer = await once(
            path,
            form(),
            headers,
            AbortSignal.any([AbortSignal.timeout(timeout), ...(signal === undefined ? [] : [signal])]),
          )
          if (answer.status !== 503 || answer.body['reason'] !== 'draining') return answer
        } catch (error) {
          signal?.throwIfAborted()
          // Not sent again: Deputy may be at it, and a second question would cost a second login.
          if ((error as Error).name === 'AbortError' || (error as Error).name === 'TimeoutError') throw late(error)
          if (left <= pause || !AWAY.has((error as NodeJS.ErrnoException).code ?? '')) throw unreachable(error)
        }
        if (answer !== undefined && left <= pause) return answer
        await sleep(pause, undefined, signal === undefined ? {} : { signal })
      }
    },
    close(): void {
      agent.destroy()
    },
  }
}
