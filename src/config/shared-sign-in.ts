import type { Problem } from './problem.ts'
import type { Snapshot } from './snapshot.ts'

/**
 * Tenants that sign in with the same client of the same issuer. An issuer has one back-channel logout URL a client, and Deputy
 * one a tenant: of the other tenants' users no logout arrives.
 * @see https://openid.net/specs/openid-connect-backchannel-1_0.html (section 2.2)
 */
export const sharedSignInWarnings = ({ tenants }: Pick<Snapshot, 'tenants'>): Problem[] => {
  const sharing = new Map<string, { readonly issuer: string; readonly client: string; readonly tenants: string[] }>()
  for (const { tenant, enabled, sign_in: signIn } of tenants.values()) {
    if (!enabled || signIn?.issuer === undefined) continue
    const key = JSON.stringify([signIn.issuer, signIn.client_id])
    const known = sharing.get(key)
    if (known === undefined) sharing.set(key, { issuer: signIn.issuer, client: signIn.client_id, tenants: [tenant] })
    else known.tenants.push(tenant)
  }
  return [...sharing.values()]
    .filter((each) => each.tenants.length > 1)
    .map((each) => ({
      file: 'tenants',
      line: 1,
      message: `${each.tenants.toSorted().join(', ')} sign in with the same client ${each.client} of ${each.issuer}, which sends its logouts to one URL, so that they count for one of these tenants.`,
      fix: 'Give each tenant a client of its own there, with /logout/<tenant> of the connect address as its back-channel logout URL.',
    }))
}
