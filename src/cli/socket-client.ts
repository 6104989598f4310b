import { request, type ClientRequest, type IncomingMessage } from 'node:http'
import { createInterface } from 'node:readline'
import { z } from 'zod'
import { CommandError, exit, START_DAEMON } from './terminal.ts'

const errorSchema = z.looseObject({
  error_description: z.string(),
  reason: z.string().optional(),
  next: z.string().optional(),
  connect_url: z.string().optional(),
  correlation_id: z.string().optional(),
})

export interface SocketRequest {
  readonly method?: string
  readonly path: string
  readonly json?: unknown
  readonly form?: Readonly<Record<string, string>>
  /** Ends the request. */
  readonly signal?: AbortSignal
  /** Bytes of the answer; default: any number. */
  readonly maxBytes?: number
}

/** An answer of the daemon as it came. */
export interface SocketAnswer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly text: string
}

const begin = (
  socketPath: string,
  { method, path, json, form, signal }: SocketRequest,
  answered: (response: IncomingMessage) => void,
): ClientRequest => {
  const body =
    json !== undefined ? JSON.stringify(json) : form !== undefined ? new URLSearchParams(form).toString() : undefined
  const type = json !== undefined ? 'application/json' : 'application/x-www-form-urlencoded'
  const outgoing = request(
    {
      socketPath,
      path,
      agent: false,
      ...(signal === undefined ? {} : { signal }),
      method: method ?? (body === undefined ? 'GET' : 'POST'),
      headers: {
        host: 'localhost',
        ...(body === undefined ? {} : { 'content-type': type, 'content-length': Buffer.byteLength(body) }),
      },
    },
    answered,
  )
  outgoing.end(body)
  return outgoing
}

const textOf = (response: IncomingMessage, maxBytes = Infinity): Promise<string> =>
  new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let size = 0
    response.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size > maxBytes) response.destroy(new Error('the answer is too long'))
      else chunks.push(chunk)
    })
    response.on('end', () => {
      resolve(Buffer.concat(chunks).toString('utf8'))
    })
    response.on('error', reject)
  })

/** Refusals of names that the daemon does not know. */
const UNKNOWN: readonly string[] = ['user_unknown', 'user_ambiguous', 'issuer_unknown']

/** Sends a request and reads the answer, whatever it says. @throws Error of the network or of the signal */
export const sendOverSocket = (socketPath: string, what: SocketRequest): Promise<SocketAnswer> =>
  new Promise((resolve, reject) => {
    begin(socketPath, what, (response) => {
      textOf(response, what.maxBytes).then((text) => {
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text })
      }, reject)
    }).on('error', reject)
  })

const unreachable = (socketPath: string, error: NodeJS.ErrnoException): CommandError => {
  switch (error.code) {
    case 'ENOENT':
      return new CommandError(
        exit.unreachable,
        `The daemon is not running: there is no socket ${socketPath}.`,
        START_DAEMON,
      )
    case 'ECONNREFUSED':
      return new CommandError(
        exit.unreachable,
        `The daemon is not running: no process listens on ${socketPath}.`,
        START_DAEMON,
      )
    case 'EACCES':
    case 'EPERM':
      return new CommandError(
        exit.unreachable,
        `This user may not open ${socketPath}.`,
        "Run the command as the user that the daemon runs as (the admin socket), or join the socket's group (the local API).",
      )
    default:
      return new CommandError(
        exit.unreachable,
        `The daemon could not be called on ${socketPath} (${error.code ?? error.message}).`,
        'Check that DEPUTY_SOCKET, or listen.socket in deputy.yaml, is the socket of the local API.',
      )
  }
}

/** The JSON of an answer. @throws CommandError for a refusal, with its next step */
const contentOf = ({ status, text }: { status: number; text: string }): unknown => {
  let content: unknown
  try {
    content = JSON.parse(text)
  } catch {
    throw new CommandError(exit.failed, `The daemon's answer (${status}) is not JSON.`)
  }
  if (status < 400) return content
  const error = errorSchema.safeParse(content).data
  throw new CommandError(
    UNKNOWN.includes(error?.reason ?? '') ? exit.unknown : exit.failed,
    `${error?.error_description ?? `The daemon answered ${status}.`}${error?.correlation_id === undefined ? '' : `\nCorrelation id: ${error.correlation_id}`}`,
    error?.connect_url === undefined ? error?.next : `${error.next ?? ''}\n  connect_url: ${error.connect_url}`,
  )
}

/** Handles an answer that arrives line by line. */
export interface Follower {
  line(value: unknown, close: () => void): void
  /** The answer is over; either side may have ended it. */
  closed(): void
}

/** Sends a request whose answer arrives as lines of JSON. Resolves when it has begun. @throws CommandError */
export const follow = (socketPath: string, what: SocketRequest, follower: Follower): Promise<void> =>
  new Promise((resolve, reject) => {
    const outgoing = begin(socketPath, what, (response) => {
      const status = response.statusCode ?? 0
      if (status !== 200) {
        textOf(response)
          .then((text) => contentOf({ status, text }))
          .then(() => {
            reject(new CommandError(exit.failed, `The daemon answered ${status}.`))
          }, reject)
        return
      }
      resolve()
      const cutOff = (): void => {
        /* it is closed then */
      }
      response.on('error', cutOff)
      createInterface({ input: response })
        .on('error', cutOff)
        .on('line', (line) => {
          let value: unknown
          try {
            value = JSON.parse(line)
          } catch {
            value = undefined
          }
          follower.line(value, () => {
            outgoing.destroy()
          })
        })
      response.once('close', () => {
        follower.closed()
      })
    }).on('error', (error) => {
      reject(unreachable(socketPath, error))
    })
  })

/**
 * Sends a request whose answer is taken as it comes. @throws CommandError for a refusal, and for an answer that is cut
 * off
 */
export const download = async (
  socketPath: string,
  what: SocketRequest,
  take: (chunk: Uint8Array) => Promise<void>,
): Promise<void> => {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    begin(socketPath, what, resolve).on('error', (error) => {
      reject(unreachable(socketPath, error))
    })
  })
  const status = response.statusCode ?? 0
  if (status !== 200) {
    contentOf({ status, text: await textOf(response) })
    throw new CommandError(exit.failed, `The daemon answered ${status}.`)
  }
  try {
    for await (const chunk of response) await take(chunk as Uint8Array)
  } catch (error) {
    throw new CommandError(exit.failed, `The answer of the daemon was cut off: ${(error as Error).message}.`)
  }
}

/** Calls the daemon over a Unix socket and reads the answer by its schema. @throws CommandError */
export const callDaemon = async <Schema extends z.ZodType>(
  socketPath: string,
  what: SocketRequest,
  schema: Schema,
): Promise<z.output<Schema>> => {
  let answer
  try {
    answer = await sendOverSocket(socketPath, what)
  } catch (error) {
    throw unreachable(socketPath, error as NodeJS.ErrnoException)
  }
  return schema.parse(contentOf(answer))
}
