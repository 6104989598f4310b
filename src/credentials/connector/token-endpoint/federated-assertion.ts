import { type Clock, type Random, toSeconds } from '#clock'
import { refuse } from '#errors'
import { randomText } from '#foundation/crypto'
import { type SigningKeys, signJwt } from '#foundation/keys'
import type { CredentialRequest } from '../connector.ts'

/** It is redeemed at once (ms). */
const LIFETIME_MS = 300_000

/** For whom it speaks. */
export type AssertedSubject = 'tenant' | 'server' | 'user'

/** Ids have no colon, and the user, whose name may have one, comes last. @throws DeputyError `target_unknown` where it is for a user and a server asks for itself */
const subjectOf = ({ principal, server, downstream }: CredentialRequest, subject: AssertedSubject): string => {
  const parts = [`tenant:${principal.tenant}`, ...(subject === 'tenant' ? [] : [`server:${server.server}`])]
  if (subject !== 'user') return parts.join(':')
  if (principal.kind !== 'user')
    throw refuse('target_unknown', { target: downstream.downstream, server: server.server })
  return [...parts, `user:${principal.user}`].join(':')
}

/** Signs a token with which Deputy proves to a cloud on whose behalf it asks. */
export type AssertToCloud = (
  request: CredentialRequest,
  wish: {
    readonly audience: string
    readonly subject: AssertedSubject
    readonly claims?: Readonly<Record<string, unknown>>
  },
) => string

/**
 * An ID token by OpenID Connect Core section 2, as workload identity federation wants it. Its `typ` is `JWT`, so that it is no access token
 * (RFC 9068) anywhere, and the key is another than that of tokens: at Deputy it counts for nothing. The cloud reads the keys from `/.well-known/openid-configuration` of the issuer.
 */
export const createCloudAssertions =
  (deps: {
    readonly keys: SigningKeys
    readonly issuer: () => string
    readonly clock: Clock
    readonly random: Random
  }): AssertToCloud =>
  (request, { audience, subject, claims = {} }) => {
    const now = toSeconds(deps.clock.now())
    return signJwt(
      deps.keys,
      { typ: 'JWT' },
      {
        ...claims,
        iss: deps.issuer(),
        sub: subjectOf(request, subject),
        aud: audience,
        tenant: request.principal.tenant,
        server: request.server.server,
        iat: now,
        nbf: now,
        exp: now + LIFETIME_MS / 1000,
        jti: randomText(deps.random, 16),
      },
      'cloud',
    )
  }
