import { ClientError } from 'openid-client'
import { z } from 'zod'
import type { Clock } from '#clock'
import { type CallProvider, expiresInOf } from '#credentials/provider'
import { DeputyError, refuse } from '#errors'
import type { Egress } from '#foundation/outbound'
import { refusalOf } from './token-request.ts'

/** A request to an API of a vendor that is no token endpoint. */
export interface ProviderRequest<Schema extends z.ZodType> {
  /** The downstream: those of this kind have no provider file. */
  readonly provider: string
  readonly tenant: string
  /** For telemetry. */
  readonly operation: string
  readonly url: string
  /** Made anew for each attempt: an assertion is good for one. */
  readonly init: () => Promise<RequestInit>
  readonly schema: Schema
  /** The vendor's own words in the body of a refusal; nothing else of it is shown. */
  readonly words: (body: unknown) => string | undefined
}

/** What is no JSON is undefined, which no schema takes. */
export const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** What the vendor said may repeat what it was sent: tokens are struck out of it, and it ends early. */
export const shownWords = (words: string): string =>
  words.replaceAll(/[\w-]{8,}\.[\w-]{8,}\.[\w-]*/g, '[token]').slice(0, 300)

/** The refusal that a failed request comes to, in the vendor's own words where it said any. @param said what `shownWords` left of them */
export const refusalInWords = (
  provider: string,
  error: unknown,
  now: number,
  said: string | undefined,
): DeputyError => {
  const refusal = refusalOf(error, { provider, downstream: provider, now })
  return said === undefined || error instanceof DeputyError
    ? refusal
    : refuse(refusal.code, { ...refusal.facts, problem: said }, error)
}

/** A token endpoint's answer (RFC 6749 section 5.1), for a bearer token. */
export const bearerSchema = z.object({
  access_token: z.string().min(1),
  token_type: z.string().regex(/^bearer$/i),
  expires_in: z.unknown().optional().transform(expiresInOf),
})
const refusalSchema = z.object({ error: z.string(), error_description: z.string().optional() })
/** What a token endpoint says when it refuses (RFC 6749 section 5.2). */
export const tokenWords = (body: unknown): string | undefined => {
  const said = refusalSchema.safeParse(body).data
  return said === undefined
    ? undefined
    : `${said.error}${said.error_description === undefined ? '' : `: ${said.error_description}`}`
}
export const asForm = (form: Readonly<Record<string, string>>): RequestInit => ({
  method: 'POST',
  body: new URLSearchParams(form).toString(),
  headers: { 'Content-Type': 'application/x-www-form-urlencoded', Accept: 'application/json' },
})

/**
 * Asks, with the pauses and circuit breakers of every call to a provider, and reads the answer by its schema.
 * @throws DeputyError `provider_unavailable`, `provider_refused`, `provider_busy`, `provider_circuit_open`
 */
export const createProviderRequests =
  (deps: { readonly egress: Egress; readonly call: CallProvider; readonly clock: Clock }) =>
  async <Schema extends z.ZodType>(request: ProviderRequest<Schema>): Promise<z.output<Schema>> => {
    const { provider, tenant, operation } = request
    let said: string | undefined
    let text: string
    try {
      text = await deps.call({ provider, tenant, operation }, async () => {
        said = undefined
        const response = await deps.egress(request.url, await request.init())
        const body = await response.text()
        if (response.ok) return body
        const words = request.words(parseJson(body))
        said = words === undefined ? `it answered ${response.status}` : shownWords(words)
        throw new ClientError('the provider refused', { cause: response })
      })
    } catch (error) {
      throw refusalInWords(provider, error, deps.clock.now(), said)
    }
    const parsed = request.schema.safeParse(parseJson(text))
    if (!parsed.success)
      throw refuse('provider_refused', { provider, problem: 'its answer is not what its documentation says' })
    return parsed.data
  }
export type AskProvider = ReturnType<typeof createProviderRequests>
