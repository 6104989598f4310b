import { createLru } from '#foundation/lru'
import type { TrustedIssuer } from '#config'
import type { Logger } from '#foundation/telemetry'
import { claimAt } from '#foundation/text'
import { omittedOf } from './claims.ts'

/** Tokens and sign-ins of an issuer without a claim, after which that is reported. */
const MIN_TOKENS = 20

/** Looks at the claims of a verified token or sign-in. */
export type WatchClaims = (tenant: string, issuer: TrustedIssuer, claims: Readonly<Record<string, unknown>>) => void

/**
 * Reports once when no token of an issuer has the claim that the tenant's file maps groups from: then its users are in no
 * group, and a `forbid` that names a group forbids nothing. Reports once, too, when the issuer leaves groups out of a token.
 */
export const createClaimWatch = ({ logger }: { readonly logger: Pick<Logger, 'warn'> }): WatchClaims => {
  const without = createLru<string, number>({ max: 10_000 })
  const reported = createLru<string, true>({ max: 10_000 })
  return (tenant, trusted, claims) => {
    const { issuer, claims: mapping } = trusted
    if (omittedOf(claims, trusted)?.groups === true) {
      const key = JSON.stringify([tenant, issuer])
      if (reported.has(key)) return
      reported.set(key, true)
      logger.warn(
        { tenant, issuer },
        `the issuer leaves the groups of users with many groups out of their tokens: such users get nothing where policies name groups; let the issuer name only the groups that are assigned to the application, or map app roles (see docs/policy.md)`,
      )
      return
    }
    for (const { claim } of mapping.groups) {
      const key = JSON.stringify([tenant, issuer, claim])
      const count = without.get(key) ?? 0
      // Seen once, or reported once.
      if (count === Infinity) continue
      if (claimAt(claims, claim) !== undefined) without.set(key, Infinity)
      else if (count + 1 < MIN_TOKENS) without.set(key, count + 1)
      else {
        without.set(key, Infinity)
        logger.warn(
          { tenant, issuer, claim, tokens: MIN_TOKENS },
          `no token of the issuer has the claim ${claim}, which the file of the tenant maps groups from: its users are in no group, and policies that name groups do not apply to them`,
        )
      }
    }
  }
}
