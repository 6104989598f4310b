import type { ProofKey, Secret } from '#foundation/crypto'
import type { Grant } from '#foundation/store'
import type { GrantTokens } from './grant.ts'

/** An access token out of a grant. */
export interface FreshToken {
  readonly grant: Grant
  readonly accessToken: Secret
  readonly scopes: readonly string[]
  readonly obtainedAt: number
  readonly expiresAt: number
  readonly fields: Readonly<Record<string, string>>
  /** Of a token that is bound to it. */
  readonly proofKey: ProofKey | undefined
  readonly auditNote: string
}

/** Whether a refresh of the grant is under way, or was begun and its outcome is not written yet. */
export const isRefreshing = ({ refreshing }: Grant, now: number): boolean =>
  refreshing !== undefined && refreshing.until > now

/** Whether an access token outlasts the call that it is for: more than 30 seconds, or a tenth of its life, are left. */
export const isFresh = (
  { accessObtainedAt, accessExpiresAt }: Pick<GrantTokens, 'accessObtainedAt' | 'accessExpiresAt'>,
  now: number,
): boolean => accessExpiresAt - now > Math.min(30_000, (accessExpiresAt - accessObtainedAt) / 10)

/** The access token that a grant has. */
export const fromGrant = (grant: Grant, tokens: GrantTokens, auditNote: string): FreshToken => ({
  grant,
  accessToken: tokens.accessToken,
  scopes: tokens.accessScopes ?? grant.scopes,
  obtainedAt: tokens.accessObtainedAt,
  expiresAt: tokens.accessExpiresAt,
  fields: tokens.fields ?? {},
  proofKey: tokens.bound === true ? tokens.proofKey : undefined,
  auditNote,
})
