import { type CurrentSnapshot, type Server, servesTenant } from '#config'
import { DeputyError, refuse } from '#errors'
import type { Membership } from '#foundation/cluster'
import { isClientAllowed } from '#identity/client'
import { agentsAmong, clientsAmong, type VerifiedSubject } from '#identity/subject'
import type { CredentialDependencies } from './credential-dependencies.ts'
import { describeScope } from './scopes.ts'
import type { RevocationIndex } from './revocation-index.ts'
import { entitlement } from './entitlement.ts'

export interface ValidityDependencies {
  readonly snapshot: CurrentSnapshot
  readonly revocationIndex: RevocationIndex
  readonly membership: Pick<Membership, 'assertHeld'>
}

type IndexOnly = Pick<ValidityDependencies, 'revocationIndex'>

/** @throws DeputyError `revoked` */
export const assertNotRevoked = (dependsOn: CredentialDependencies, { revocationIndex }: IndexOnly): void => {
  const revoked = revocationIndex.findRevocation(dependsOn)
  if (revoked !== undefined)
    throw refuse('revoked', {
      scope: describeScope(revoked.scope),
      revoked_at: new Date(revoked.epoch).toISOString(),
    })
}

/** @throws DeputyError `subject_tenant_frozen` */
export const assertThawed = (tenant: string, { revocationIndex }: IndexOnly): void => {
  if (revocationIndex.isFrozen(tenant)) throw refuse('subject_tenant_frozen', { tenant })
}

/** @throws DeputyError `subject_tenant_frozen`, `subject_user_disabled` */
export const assertEnabled = (tenant: string, user: string | undefined, deps: IndexOnly): void => {
  assertThawed(tenant, deps)
  if (user !== undefined && deps.revocationIndex.isDisabled(tenant, user))
    throw refuse('subject_user_disabled', { tenant, user })
}

/** A good token may be of a user for whom nothing is done. @throws DeputyError `workload_tenant`, `subject_tenant_frozen`, `subject_user_disabled` */
export const assertUserServed = (
  { tenant: { tenant }, user }: VerifiedSubject,
  server: Server,
  deps: IndexOnly,
): void => {
  if (!servesTenant(server.tenants, tenant)) throw refuse('workload_tenant', { server: server.server, tenant })
  assertEnabled(tenant, user, deps)
}

/**
 * Asks whether what a credential, a token or a session relies on is valid: nothing of it was revoked (promise 4), and no admin
 * and no file has disabled it or taken it away (threat 15).
 * @param generation of the configuration for which the files were asked already
 * @throws DeputyError that says who or what has ended
 */
export const assertValid = (
  dependsOn: CredentialDependencies,
  deps: Omit<ValidityDependencies, 'membership'>,
  generation?: number,
): void => {
  assertNotRevoked(dependsOn, deps)
  assertEnabled(dependsOn.tenant, dependsOn.user, deps)
  const current = deps.snapshot()
  if (current.generation === generation) return
  const [agent] = agentsAmong(dependsOn.tokens)
  entitlement(current, { ...dependsOn, agent })
  // Which servers it may be used for is asked where it comes: a token that descends from the client's is for another.
  const ended = clientsAmong(dependsOn.tokens).find(
    (client) => !isClientAllowed(client, { tenant: dependsOn.tenant }, current),
  )
  if (ended !== undefined) throw refuse('subject_client_disabled', { client: ended })
}

/** Whether `assertValid` finds nothing against it. */
export const isValid = (dependsOn: CredentialDependencies, deps: Omit<ValidityDependencies, 'membership'>): boolean => {
  try {
    assertValid(dependsOn, deps)
    return true
  } catch (error) {
    if (error instanceof DeputyError) return false
    throw error
  }
}

/**
 * As `assertValid`, by a node that is sure to have applied every revocation.
 * @throws DeputyError `membership_lost`, and what `assertValid` throws
 */
export const assertStillValid = (
  dependsOn: CredentialDependencies,
  deps: ValidityDependencies,
  generation?: number,
): void => {
  deps.membership.assertHeld()
  assertValid(dependsOn, deps, generation)
}
