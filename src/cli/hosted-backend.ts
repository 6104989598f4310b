/** The tools of a server that the daemon hosts, over the socket of the local API: what `deputy mcp` serves to its client. */
import { request } from 'node:http'
import { z } from 'zod'
import { DeputyClientError, errorOf, type ToolBackend } from '#listeners/mcp'
import type { ToolAnswer, ToolDescription } from '#openapi'

const bodySchema = z.record(z.string(), z.unknown())
const toolsSchema = z.object({ tools: z.array(z.looseObject({ name: z.string() })) })
const answerSchema = z.object({
  isError: z.boolean(),
  structured: z.record(z.string(), z.unknown()).optional(),
  content: z.array(z.looseObject({ type: z.string() })),
  deviations: z.array(z.string()),
})

/** The longest answer (bytes): the largest of an API, as base64. */
const MAX_ANSWER_BYTES = 33_554_432

const unreachable = (socketPath: string, error: NodeJS.ErrnoException): DeputyClientError =>
  new DeputyClientError(
    {
      reason: 'unreachable',
      error: 'temporarily_unavailable',
      message: `Deputy cannot be reached on ${socketPath} (${error.code ?? error.message}).`,
      next: 'Start it with: deputy serve',
    },
    { cause: error },
  )

/** @throws DeputyClientError of the daemon, or `unreachable` */
const post = (
  socketPath: string,
  path: string,
  body: object,
  signal?: AbortSignal,
): Promise<Readonly<Record<string, unknown>>> =>
  new Promise((resolve, reject) => {
    const text = JSON.stringify(body)
    const outgoing = request(
      {
        socketPath,
        path,
        method: 'POST',
        agent: false,
        headers: { host: 'localhost', 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) },
        ...(signal === undefined ? {} : { signal }),
      },
      (response) => {
        const chunks: Buffer[] = []
        let size = 0
        response.on('data', (chunk: Buffer) => {
          size += chunk.length
          if (size > MAX_ANSWER_BYTES) response.destroy(new Error('the answer is too long'))
          else chunks.push(chunk)
        })
        response.on('error', (error) => {
          reject(unreachable(socketPath, error))
        })
        response.on('end', () => {
          const parsed = bodySchema.safeParse(parseJson(Buffer.concat(chunks)))
          const status = response.statusCode ?? 0
          if (status === 200 && parsed.success) resolve(parsed.data)
          else
            reject(
              errorOf({
                status,
                body: parsed.data ?? {},
                retryAfter: Number(response.headers['retry-after']) || undefined,
                correlationId: undefined,
                warning: undefined,
              }),
            )
        })
      },
    )
    outgoing.on('error', (error) => {
      reject(unreachable(socketPath, error))
    })
    outgoing.end(text)
  })

const parseJson = (bytes: Buffer): unknown => {
  try {
    return JSON.parse(bytes.toString('utf8')) as unknown
  } catch {
    return undefined
  }
}

/** @param server the id of the server */
export const createSocketBackend = (socketPath: string, server: string): ToolBackend => ({
  list: async () =>
    toolsSchema.parse(await post(socketPath, '/mcp/tools', { server })).tools as unknown as readonly ToolDescription[],
  // The daemon itself refuses a tool that policy hides, as one that it does not know.
  has: () => Promise.resolve(true),
  call: async (tool, args, { signal }) =>
    answerSchema.parse(
      await post(socketPath, '/mcp/call', { server, tool, arguments: args }, signal),
    ) as unknown as ToolAnswer,
})
