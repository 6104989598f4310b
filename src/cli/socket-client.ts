import { request } from 'node:http'
import { z } from 'zod'
import { CommandError, exit } from './terminal.ts'

const errorSchema = z.looseObject({ error_description: z.string(), next: z.string().optional(), correlation_id: z.string().optional() })

export interface SocketRequest { readonly method?: string; readonly path: string; readonly json?: unknown; readonly form?: Readonly<Record<string, string>> }

const send = (socketPath: string, { method, path, json, form }: SocketRequest): Promise<{ status: number; text: string }> => new Promise((resolve, reject) => {
  const body = json !== undefined ? JSON.stringify(json) : form !== undefined ? new URLSearchParams(form).toString() : undefined
  const type = json !== undefined ? 'application/json' : 'application/x-www-form-urlencoded'
  const outgoing = request({
    socketPath, path, method: method ?? (body === undefined ? 'GET' : 'POST'),
    headers: { host: 'localhost', ...(body === undefined ? {} : { 'content-type': type, 'content-length': Buffer.byteLength(body) }) },
  }, (response) => {
    const chunks: Buffer[] = []
    response.on('data', (chunk: Buffer) => { chunks.push(chunk) })
    response.on('end', () => { resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }) })
    response.on('error', reject)
  })
  outgoing.on('error', reject)
  outgoing.end(body)
})

const unreachable = (socketPath: string, error: NodeJS.ErrnoException): CommandError => {
  switch (error.code) {
    case 'ENOENT': return new CommandError(exit.unreachable, `The daemon is not running: there is no socket ${socketPath}.`, 'deputy serve')
    case 'ECONNREFUSED': return new CommandError(exit.unreachable, `The daemon is not running: nobody answers on ${socketPath}.`, 'deputy serve')
    case 'EACCES': case 'EPERM': return new CommandError(exit.unreachable, `This user may not open ${socketPath}.`, 'Run the command as the user that the daemon runs as (the admin socket), or ask for the socket\'s group (the local API).')
    default: return new CommandError(exit.unreachable, `The daemon could not be asked on ${socketPath} (${error.code ?? error.message}).`)
  }
}

/** Asks the daemon over a Unix socket and reads the answer by its schema. @throws CommandError */
export const ask = async <Schema extends z.ZodType>(socketPath: string, what: SocketRequest, schema: Schema): Promise<z.output<Schema>> => {
  let answer
  try { answer = await send(socketPath, what) } catch (error) { throw unreachable(socketPath, error as NodeJS.ErrnoException) }
  let content: unknown
  try { content = JSON.parse(answer.text) } catch { throw new CommandError(exit.failed, `The daemon's answer (${answer.status}) is no JSON.`) }
  if (answer.status >= 400) {
    const error = errorSchema.safeParse(content).data
    throw new CommandError(exit.failed, error?.error_description ?? `The daemon answered ${answer.status}.`, error?.next)
  }
  return schema.parse(content)
}
