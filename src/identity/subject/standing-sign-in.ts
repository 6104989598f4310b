import { isMemberOf, signInIssuer, type Snapshot, userIssuerOf } from '#config'
import type { ClientSignIn } from '#identity/client'
import { isOfTenant, type Trusting } from './trust.ts'

/**
 * The tenant of a sign-in and its issuer, as the files have them now. What they say may have changed since: the
 * identity provider, the claim that names the tenant, the groups of its members.
 * @returns undefined where the files no longer have the user sign in there, or no longer call the user the tenant's
 */
export const trustOfSignIn = (
  { tenant: id, issuer, claims, groups }: Pick<ClientSignIn, 'tenant' | 'issuer' | 'claims' | 'groups'>,
  { tenants, providers }: Snapshot,
): Trusting | undefined => {
  const tenant = tenants.get(id)
  if (tenant?.enabled !== true || signInIssuer(tenant, providers) !== issuer) return undefined
  const trusted = userIssuerOf(tenant, issuer, providers)
  if (trusted === undefined || !isOfTenant(claims, trusted)) return undefined
  const { sign_in: signIn } = tenant
  return signIn?.members_of === undefined || isMemberOf(signIn, groups) ? { tenant, issuer: trusted } : undefined
}
