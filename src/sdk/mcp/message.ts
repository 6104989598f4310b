import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'

type Json = Readonly<Record<string, unknown>>

const isObject = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value)

/** Reads a body of JSON. Undefined: it is longer than `limit` bytes, or not JSON. */
export const readJson = async (
  request: IncomingMessage,
  limit: number,
): Promise<{ value: unknown } | 'too_large' | 'malformed'> => {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size <= limit) chunks.push(chunk)
  }
  if (size > limit) return 'too_large'
  try {
    return { value: JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks))) }
  } catch {
    return 'malformed'
  }
}

/** The messages of a body: one, or the several of a batch of the older revisions. */
const messagesOf = (body: unknown): Json[] => [body].flat().filter(isObject)

/** Names of the tools that a body calls. */
export const toolsCalled = (body: unknown): string[] =>
  messagesOf(body).flatMap(({ method, params }) =>
    method === 'tools/call' && isObject(params) && typeof params['name'] === 'string' ? [params['name']] : [],
  )

/** With keys in order: a client that retries may write them in another. */
const ordered = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(ordered)
  return isObject(value)
    ? Object.keys(value)
        .sort()
        .map((key) => [key, ordered(value[key])])
    : value
}

/** What changes between a request and its retry with input. */
const OF_ONE_ROUND = new Set(['_meta', 'inputResponses', 'requestState'])

/** A digest of what is asked: the same for a request and its retry, another for every other request. */
export const digestOf = (body: unknown): string => {
  const asked = messagesOf(body).map(({ method, params }) => [
    method,
    isObject(params) ? Object.fromEntries(Object.entries(params).filter(([key]) => !OF_ONE_ROUND.has(key))) : params,
  ])
  return createHash('sha256')
    .update(JSON.stringify(ordered(asked)))
    .digest('base64url')
}
