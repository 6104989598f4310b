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

const MAX_ANSWER_BYTES = 1_048_576
const FIRST_PAUSE_MS = 50
const MAX_PAUSE_MS = 1000
/** The daemon is not there, or went away, and may be restarting. A request for a token may be sent again. */
const RESTARTING = new Set(['ECONNREFUSED', 'ENOENT', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT'])

const format = (address: Address): string =>
  'socketPath' in address ? address.socketPath : `${address.host}:${address.port}`

const read = async (response: IncomingMessage): Promise<string> => {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MAX_ANSWER_BYTES) throw new Error('the answer is too long')
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

/** A form to send. */
interface Sending {
  readonly path: string
  readonly form: URLSearchParams
  readonly signal: AbortSignal
}

const toAnswer = (response: IncomingMessage, text: string): Answer => {
  const body = parse(text)
  if (body === undefined) throw new Error(`it answered ${response.statusCode}, not in JSON`)
  return {
    status: response.statusCode ?? 0,
    body,
    warning: header(response, 'warning'),
    retryAfter: Number(header(response, 'retry-after')) || undefined,
    correlationId: header(response, 'x-correlation-id'),
  }
}

/** @throws Error of the network, of the signal, or for an answer that is not JSON */
const send = ({ path, form, signal }: Sending, address: Address, agent: Agent): Promise<Answer> =>
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
          host: 'socketPath' in address ? 'localhost' : format(address),
          'content-type': 'application/x-www-form-urlencoded',
          'content-length': Buffer.byteLength(body),
        },
      },
      (response) => {
        read(response)
          .then((text) => {
            resolve(toAnswer(response, text))
          })
          .catch(reject)
      },
    )
    outgoing.on('error', reject)
    outgoing.end(body)
  })

/** @param timeout ms */
const timedOut = (error: unknown, timeout: number): DeputyClientError =>
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

const unreachable = (error: unknown, address: Address): DeputyClientError => {
  const code = (error as NodeJS.ErrnoException).code
  const next =
    code === 'EACCES'
      ? 'This user may not open the socket: set `listen.socket_mode` and `listen.socket_group` in deputy.yaml.'
      : 'Check that the daemon runs (deputy status), and set DEPUTY_SOCKET to the path of its socket.'
  return new DeputyClientError(
    {
      reason: 'unreachable',
      error: 'temporarily_unavailable',
      message: `Deputy could not be reached at ${format(address)} (${code ?? (error as Error).message}).`,
      next,
      retryAfter: 1,
    },
    { cause: error },
  )
}

/**
 * Sends forms to Deputy, and again while it restarts or drains, for as long as `patience` (ms); an answer may take
 * `timeout` (ms).
 */
export const createWire = (options: { address: Address; patience: number; timeout: number }) => {
  const { address, patience, timeout } = options
  const agent = new Agent({ keepAlive: true, maxSockets: 32 })
  return {
    /**
     * @param form made anew for each attempt: a proof of the caller may be valid once only
     * @throws DeputyClientError `unreachable`, `timeout`
     */
    async post(path: string, form: () => URLSearchParams, signal?: AbortSignal): Promise<Answer> {
      const until = performance.now() + patience
      for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(MAX_PAUSE_MS, pause * 2)) {
        const left = until - performance.now()
        let answer: Answer | undefined
        try {
          const ended = AbortSignal.any([AbortSignal.timeout(timeout), ...(signal === undefined ? [] : [signal])])
          answer = await send({ path, form: form(), signal: ended }, address, agent)
          if (answer.status !== 503 || answer.body['reason'] !== 'draining') return answer
        } catch (error) {
          signal?.throwIfAborted()
          // Not sent again: Deputy may still work on it, and a second request would cost a second login.
          if ((error as Error).name === 'AbortError' || (error as Error).name === 'TimeoutError')
            throw timedOut(error, timeout)
          if (left <= pause || !RESTARTING.has((error as NodeJS.ErrnoException).code ?? ''))
            throw unreachable(error, address)
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
