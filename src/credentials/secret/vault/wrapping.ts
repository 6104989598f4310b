import { z } from 'zod'
import { refuse } from '#errors'
import type { Secret } from '#foundation/crypto'
import type { SendToVault } from './client.ts'

const lookupSchema = z.object({ data: z.object({ creation_path: z.string() }) })

/**
 * Opens a response-wrapping token (https://developer.hashicorp.com/vault/docs/concepts/response-wrapping#response-wrapping-token-validation):
 * looks it up, compares the path that it was made at with the one that is expected, and unwraps it once. Any failure
 * means that another party may have opened it, or has put another one in its place.
 * @throws DeputyError `wrapping_violated`
 */
export const unwrap = async <Schema extends z.ZodType>(options: {
  id: string
  send: SendToVault
  token: Secret
  expectedPath: string
  schema: Schema
}): Promise<z.output<Schema>> => {
  const { id, send, token, expectedPath } = options
  const violated = (problem: string): Error => refuse('wrapping_violated', { backend: id, problem })
  const lookup = await send({ method: 'POST', path: 'sys/wrapping/lookup', body: { token: token.reveal() } }, undefined)
  const facts = lookupSchema.safeParse(lookup.body)
  if (lookup.status !== 200 || !facts.success)
    throw violated('the token is not valid: it was used before, or has expired')
  // It is not opened: what is in it could be anything.
  if (facts.data.data.creation_path !== expectedPath)
    throw violated(`it was made at ${facts.data.data.creation_path.slice(0, 100)}, not at ${expectedPath}`)
  const answer = await send({ method: 'POST', path: 'sys/wrapping/unwrap' }, token)
  const parsed = options.schema.safeParse(answer.body)
  if (answer.status !== 200 || !parsed.success) throw violated('another party opened it between the lookup and its use')
  return parsed.data
}
