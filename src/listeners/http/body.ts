import type { IncomingMessage } from 'node:http'
import type { z } from 'zod'
import { refuse } from '#errors'
import { Form, parseForm } from './form.ts'

/**
 * Reads the whole body. Time is bounded by the server's own request timeout. What is over the limit is not kept.
 * @param limit bytes
 * @throws DeputyError `body_too_large`, as soon as it is known, and `malformed_request` when the client goes away
 */
export const readBody = (request: IncomingMessage, limit: number): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const tooLarge = (): void => {
      reject(refuse('body_too_large', { limit }))
    }
    if (Number(request.headers['content-length']) > limit) {
      tooLarge()
      return
    }
    const chunks: Buffer[] = []
    let size = 0
    request.on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size > limit) {
        chunks.length = 0
        tooLarge()
        return
      }
      chunks.push(chunk)
    })
    request.on('end', () => {
      resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks))
    })
    request.on('error', (error) => {
      reject(refuse('malformed_request', { problem: 'the request ended early' }, error))
    })
    // Every request closes in the end; making an error costs a stack, so only those that ended early get one.
    request.on('close', () => {
      if (!request.complete) reject(refuse('malformed_request', { problem: 'the request ended early' }))
    })
  })

/**
 * Calls when nothing more of the body will come, throwing away what was not read. A client that is still sending reads
 * no answer: to answer and close would turn a refusal into a broken pipe. Bounded by the server's request timeout.
 */
export const afterBody = (request: IncomingMessage, then: () => void): void => {
  if (request.complete || request.destroyed) {
    then()
    return
  }
  request.once('close', then).resume()
}

const FORM = 'application/x-www-form-urlencoded'

/** Reads a form as it came. @throws DeputyError `unsupported_media_type`, and what `readBody` throws */
export const readFormBytes = (request: IncomingMessage, limit: number): Promise<Buffer> => {
  const type = request.headers['content-type'] ?? ''
  const [media, ...parameters] = type
    .toLowerCase()
    .split(';')
    .map((part) => part.trim())
  const charset = parameters.find((parameter) => parameter.startsWith('charset='))
  if (media !== FORM || (charset !== undefined && charset !== 'charset=utf-8' && charset !== 'charset="utf-8"')) {
    throw refuse('unsupported_media_type', { type: media === '' ? '(none)' : type.slice(0, 100), expected: FORM })
  }
  return readBody(request, limit)
}

/** Reads a form. @throws DeputyError what `readFormBytes` and `parseForm` throw */
export const readForm = async (request: IncomingMessage, limit: number): Promise<Form> =>
  parseForm(await readFormBytes(request, limit))

/**
 * Reads JSON that nothing is known of yet.
 * @returns undefined where the body is not JSON
 * @throws DeputyError `unsupported_media_type`, and what `readBody` throws
 */
export const readAnyJson = async (request: IncomingMessage, limit: number): Promise<unknown> => {
  const type = request.headers['content-type'] ?? ''
  if (!/^application\/json\s*(;|$)/i.test(type))
    throw refuse('unsupported_media_type', {
      type: type === '' ? '(none)' : type.slice(0, 100),
      expected: 'application/json',
    })
  const bytes = await readBody(request, limit)
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch {
    return undefined
  }
}

/** Reads JSON of a schema. @throws DeputyError `malformed_request`, and what `readAnyJson` throws */
export const readJson = async <Schema extends z.ZodType>(
  request: IncomingMessage,
  schema: Schema,
  limit: number,
): Promise<z.output<Schema>> => {
  const value = await readAnyJson(request, limit)
  if (value === undefined) throw refuse('malformed_request', { problem: 'the body is not JSON' })
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw refuse('malformed_request', {
    problem: `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'it is not valid'}`,
  })
}
