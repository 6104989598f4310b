import type { ActorClaim } from '../connector/connector.ts'
import type { Tenant } from '../config/tenant.ts'

/** The id under which a token can be revoked. An issuer's URL holds no `#`, so the issuer can be read off it. */
export const tokenIdOf = (issuer: string, id: string): string => `${issuer}#${id}`

/** A user whose token, or whose session on this machine, has been verified for the calling server. */
export interface VerifiedSubject {
  readonly tenant: Tenant
  readonly user: string
  readonly issuer: string
  readonly groups: readonly string[]
  /** Verified claims, for policy. */
  readonly claims: Readonly<Record<string, unknown>>
  readonly acr?: string
  /** Scopes of the subject token itself, if it has any. */
  readonly scopes?: readonly string[]
  readonly issuedAt: number
  readonly expiresAt: number
  /** `tokenIdOf` its `jti`, or of a keyed fingerprint where it has none; of a minted token, its `jti` alone. */
  readonly tokenId: string
  /** Ids of the tokens that it descends from. */
  readonly ancestors: readonly string[]
  /** Actors that it already carries, outermost first. */
  readonly actors: readonly ActorClaim[]
  readonly how: 'jwt' | 'introspection' | 'login_session'
}
