import type { CurrentSnapshot } from '#config'
import type { Revocable } from '#credentials/connector'
import type { Revocation, Store } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import { kindOf } from '#identity/validity'

/**
 * Ends what a revocation had ended and a store that has lost commits brought back. The revocation is in force already; this removes the
 * grants and notifies their providers. Grants that were given after the revocation stay.
 */
export const createEndAgain =
  (deps: {
    readonly store: Pick<Store, 'grants' | 'consents'>
    readonly snapshot: CurrentSnapshot
    readonly upstream: Revocable
    readonly sweepLeases: () => Promise<void>
    readonly logger: Logger
  }) =>
  async (revocations: readonly Revocation[]): Promise<void> => {
    const { grants, consents } = deps.store
    for (const { scope, epoch } of revocations) {
      const within = (
        await Promise.all(
          kindOf(scope)
            .grants(scope, deps.snapshot())
            .map((filter) => grants.list(filter)),
        )
      ).flat()
      const returned = within.filter(({ createdAt }) => createdAt <= epoch)
      const orders =
        kindOf(scope).destroysKeyOf(scope) !== undefined ? new Map() : await deps.upstream.prepare(returned)
      for (const grant of returned) {
        await grants.remove({ id: grant.id })
        const consent = await consents.find(grant)
        const { tenant, user, server, downstream } = grant
        if (consent !== undefined && consent.at <= epoch) await consents.remove({ tenant, user, server, downstream })
        await deps.upstream.revoke(grant, orders.get(grant.id)).catch((error: unknown) => {
          deps.logger.warn({ err: error, grant: grant.id }, 'the revocation of a grant at its provider failed')
        })
      }
    }
    await deps.sweepLeases()
  }
