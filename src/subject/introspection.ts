import { LRUCache } from 'lru-cache'
import { z } from 'zod'
import type { Clock } from '../clock.ts'
import type { TrustedIssuer } from '../config/tenant.ts'
import type { Egress } from '../egress/egress.ts'
import type { Fingerprint } from '../crypto/fingerprint.ts'
import type { Secret } from '../crypto/secret.ts'
import { DeputyError, refuse } from '../errors.ts'
import type { ResolveSecret } from '../secret/reference.ts'
import type { ReadIssuerMetadata } from './issuer-metadata.ts'

const answerSchema = z.looseObject({ active: z.boolean() })

/** How long an issuer's word that a token is active is kept at most (ms): a revocation there must not go unnoticed for longer. */
const KEPT = 30_000

export type IntrospectedClaims = Readonly<Record<string, unknown>>

/** Asks an issuer about an opaque token (RFC 7662 section 2). Undefined: not active there. @throws DeputyError `issuer_unreachable` */
export const createIntrospection = (options: {
  egress: Egress
  clock: Clock
  metadata: ReadIssuerMetadata
  resolveSecret: ResolveSecret
  fingerprint: Fingerprint
}) => {
  const answers = new LRUCache<string, { claims: IntrospectedClaims | undefined; until: number }>({ max: 5000 })

  const ask = async (token: Secret, issuer: TrustedIssuer, tenant: string): Promise<IntrospectedClaims | undefined> => {
    const { client_id: clientId, client_secret: reference, endpoint } = issuer.introspection!
    const url = endpoint ?? (await options.metadata(issuer.issuer)).introspection_endpoint
    if (url === undefined) throw new Error('its metadata names no introspection endpoint')
    const secret = await options.resolveSecret(reference, tenant)
    const encode = (text: string): string => encodeURIComponent(text).replaceAll('%20', '+')
    const response = await options.egress(url, {
      method: 'POST',
      headers: {
        authorization: `Basic ${Buffer.from(`${encode(clientId)}:${encode(secret.reveal())}`).toString('base64')}`,
        accept: 'application/json',
        'content-type': 'application/x-www-form-urlencoded',
      },
      body: new URLSearchParams({ token: token.reveal(), token_type_hint: 'access_token' }).toString(),
    })
    if (!response.ok) throw new Error(`the introspection endpoint answered ${response.status}`)
    const claims = answerSchema.parse(await response.json())
    return claims.active ? claims : undefined
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
      if (error instanceof DeputyError && (error.kind.category === 'secret' || error.kind.category === 'config'))
        throw error
      throw refuse('issuer_unreachable', { issuer: issuer.issuer, seconds: 5 }, error)
    }
    answers.set(key, { claims, until: now + KEPT })
    return claims
  }
}
export type Introspect = ReturnType<typeof createIntrospection>
