import { ofTenant } from './cloud-credentials.ts'
import type { Downstream } from './downstream.ts'
import type { Problem } from './problem.ts'
import type { Snapshot } from './snapshot.ts'
import { servesTenant } from './values.ts'

/** What each tenant needs at a cloud: the setting with those of single tenants, and that for all others. */
const neededBy = (
  downstream: Downstream,
): { readonly setting: string; readonly common: string; readonly has: (tenant: string) => boolean } | undefined => {
  const needed = <T>(setting: string, own: Readonly<Record<string, T>>, common: string, ofAll: T | undefined) => ({
    setting,
    common,
    has: (tenant: string) => ofTenant(own, ofAll, tenant) !== undefined,
  })
  switch (downstream.credential) {
    case 'github_app':
      return needed('installations', downstream.installations, 'installation', downstream.installation)
    case 'azure':
      return needed('identities', downstream.identities, 'identity', downstream.identity)
    // The others work without: with the rights of the keys, or of the federated identity itself.
    case 'aws_sts':
      return downstream.method === 'session_token'
        ? undefined
        : needed('roles', downstream.roles, 'role', downstream.role)
    case 'gcp_sts':
      return Object.keys(downstream.service_accounts).length === 0
        ? undefined
        : needed('service_accounts', downstream.service_accounts, 'service_account', downstream.service_account)
    default:
      return undefined
  }
}

/** Tenants that a server may use a downstream for, and that have nothing at its cloud: they would be told only when they ask. */
export const cloudTenantWarnings = ({ tenants, servers, downstreams }: Snapshot): Problem[] =>
  [...downstreams.values()].flatMap((downstream) => {
    const needed = downstream.enabled ? neededBy(downstream) : undefined
    if (needed === undefined) return []
    const users = [...servers.values()].filter(
      (server) =>
        server.status !== 'retired' &&
        [server.downstreams, server.service_downstreams].some((uses) => Object.hasOwn(uses, downstream.downstream)),
    )
    const without = [...tenants.keys()].filter(
      (tenant) =>
        tenants.get(tenant)!.enabled &&
        servesTenant(downstream.tenants, tenant) &&
        !needed.has(tenant) &&
        users.some((server) => servesTenant(server.tenants, tenant)),
    )
    return without.length === 0
      ? []
      : [
          {
            file: 'downstreams',
            line: 1,
            message: `${downstream.downstream} has no entry in \`${needed.setting}\`, and no \`${needed.common}\`, for ${without.toSorted().join(', ')}, so these tenants get no credentials.`,
            fix: `Add them, or name in \`tenants\` of ${downstream.downstream} the tenants that use it.`,
          },
        ]
  })
