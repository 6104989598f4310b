/**
 * The tools of a server that the daemon hosts, over the socket of the local API: what `deputy mcp` serves to its
 * client.
 */
import { z } from 'zod'
import { DeputyClientError, errorOf, type ToolBackend } from '#listeners/mcp'
import type { ToolAnswer, ToolDescription } from '#openapi'
import { type SocketAnswer, type SocketRequest, sendOverSocket } from './socket-client.ts'

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
const post = async (
  socketPath: string,
  what: Pick<SocketRequest, 'path' | 'json' | 'signal'>,
): Promise<Readonly<Record<string, unknown>>> => {
  let answer: SocketAnswer
  try {
    answer = await sendOverSocket(socketPath, { ...what, maxBytes: MAX_ANSWER_BYTES })
  } catch (error) {
    throw unreachable(socketPath, error as NodeJS.ErrnoException)
  }
  const { status, headers, text } = answer
  const parsed = bodySchema.safeParse(parseJson(text))
  if (status === 200 && parsed.success) return parsed.data
  throw errorOf({
    status,
    body: parsed.data ?? {},
    retryAfter: Number(headers['retry-after']) || undefined,
    correlationId: undefined,
    warning: undefined,
  })
}

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return undefined
  }
}

/** @param server the id of the server */
export const createSocketBackend = (socketPath: string, server: string): ToolBackend => ({
  list: async () =>
    toolsSchema.parse(await post(socketPath, { path: '/mcp/tools', json: { server } }))
      .tools as unknown as readonly ToolDescription[],
  // The daemon itself refuses a tool that policy hides, as one that it does not know.
  has: () => Promise.resolve(true),
  call: async (tool, args, { signal }) =>
    answerSchema.parse(
      await post(socketPath, { path: '/mcp/call', json: { server, tool, arguments: args }, signal }),
    ) as unknown as ToolAnswer,
})
