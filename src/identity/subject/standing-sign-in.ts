import { signInIssuer, type Snapshot, userIssuerOf } from '#config'
import { DeputyError } from '#errors'
import type { ClientSignIn } from '#identity/client'
import { tenantOf } from './trust.ts'

/**
 * Whether the files still have the user of a sign-in sign in there, and still say that the user is the tenant's. What they say may have
 * changed since: the identity provider, the claim that names the tenant.
 */
export const isSignInTrusted = (
  { tenant: id, issuer, claims, groups }: Pick<ClientSignIn, 'tenant' | 'issuer' | 'claims' | 'groups'>,
  { tenants, providers }: Snapshot,
): boolean => {
  const tenant = tenants.get(id)
  if (tenant?.enabled !== true || signInIssuer(tenant, providers) !== issuer) return false
  const trusted = userIssuerOf(tenant, issuer, providers)
  if (trusted === undefined) return false
  const { members_of: groupsOfTenant } = tenant.sign_in ?? {}
  if (groupsOfTenant !== undefined && groupsOfTenant !== '*' && !groupsOfTenant.some((each) => groups.includes(each)))
    return false
  try {
    tenantOf(claims, [{ tenant, issuer: trusted }])
    return true
  } catch (error) {
    if (error instanceof DeputyError) return false
    throw error
  }
}
