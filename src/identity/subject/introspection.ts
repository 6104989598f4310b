import { createLru } from '#foundation/lru'
import { z } from 'zod'
import type { Clock } from '#clock'
import type { SecretReference, TrustedIssuer } from '#config'
import { DeputyError } from '#errors'
import type { Fingerprint, Secret } from '#foundation/crypto'
import { type Egress, told } from '#foundation/outbound'
import { IssuerFault, readIssuerJson, refusalOfFault } from './issuer-answer.ts'
import type { ReadIssuerMetadata } from './issuer-metadata.ts'

const answerSchema = z.looseObject({ active: z.boolean() })

/** Cache lifetime of an issuer's answer (ms): a revocation at the issuer must not go unnoticed for longer. */
const MAX_CACHE_MS = 30_000

export type IntrospectedClaims = Readonly<Record<string, unknown>>

/** Asks an issuer about an opaque token (RFC 7662 section 2). Undefined: not active there. @throws DeputyError `issuer_unreachable`, `issuer_not_understood`, those of secrets */
export const createIntrospection = (options: {
  egress: Egress
  clock: Clock
  metadata: ReadIssuerMetadata
  resolveSecret: (reference: SecretReference, tenant: string) => Promise<Secret>
  fingerprint: Fingerprint
}) => {
  const answers = createLru<string, { claims: IntrospectedClaims | undefined; until: number }>({ max: 5000 })

  const ask = async (token: Secret, issuer: TrustedIssuer, tenant: string): Promise<IntrospectedClaims | undefined> => {
    const { client_id: clientId, client_secret: reference, endpoint } = issuer.introspection!
    const url = endpoint ?? (await options.metadata(issuer.issuer)).introspection_endpoint
    if (url === undefined) throw new IssuerFault('its metadata names no introspection_endpoint', { reached: true })
    const secret = await options.resolveSecret(reference, tenant)
    const encode = (text: string): string => encodeURIComponent(text).replaceAll('%20', '+')
    const answer = await readIssuerJson(options.egress, url, 'its introspection endpoint', {
      method: 'POST',
      headers: {
        authorization: `Basic ${Buffer.from(`${encode(clientId)}:${encode(secret.reveal())}`).toString('base64')}`,
        accept: 'application/json',
        'content-type': 'application/x-www-form-urlencoded',
      },
      body: new URLSearchParams({ token: token.reveal(), token_type_hint: 'access_token' }).toString(),
    })
    const claims = answerSchema.safeParse(answer)
    if (!claims.success)
      throw new IssuerFault(`its introspection endpoint at ${url} does not say whether the token is active`, {
        reached: true,
        answered: told(JSON.stringify(answer)),
      })
    return claims.data.active ? claims.data : undefined
  }

  return async (token: Secret, issuer: TrustedIssuer, tenant: string): Promise<IntrospectedClaims | undefined> => {
    const key = `${tenant} ${issuer.issuer} ${options.fingerprint(token)}`
    const now = options.clock.now()
    const known = answers.get(key)
    if (known !== undefined && known.until > now) return known.claims
    let claims
    try {
      claims = await ask(token, issuer, tenant)
    } catch (error) {
      // A client secret that is missing here is not the issuer's doing.
      if (error instanceof DeputyError) throw error
      throw refusalOfFault(issuer.issuer, error, 5)
    }
    answers.set(key, { claims, until: now + MAX_CACHE_MS })
    return claims
  }
}
export type Introspect = ReturnType<typeof createIntrospection>
