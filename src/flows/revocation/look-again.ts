import type { AuditLog, LostRecords } from '#foundation/audit'
import type { LookAgain } from '#foundation/cluster'
import type { Fingerprint } from '#foundation/crypto'
import type { AuditStore, Grant, RecentGrants, Revocation, RevocationChanges, Store } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import { describeScope, RevocationIndex, voidsGrant } from '#identity/validity'
import { isProvedLifted } from './restore.ts'

export interface LookAgainDependencies {
  readonly store: Store
  readonly grants: RecentGrants
  readonly revocationIndex: RevocationIndex
  readonly audit: AuditLog & { compare(): Promise<void> }
  readonly fingerprint: Fingerprint
  /** Empties every cache of this node. */
  readonly emptyCaches: () => void
  /** Ends again the rows that a revocation had ended and the store has brought back; the revocation is in force already. */
  readonly endAgain: (revocations: readonly Revocation[]) => void
  readonly node: string
  readonly now: () => number
  readonly newId: () => string
  readonly logger: Logger
}

/** Rows that a node has written again. */
interface WrittenAgain {
  readonly problems: string[]
  readonly revocations: Revocation[]
  readonly disabled: string[]
  readonly frozen: string[]
  readonly grants: string[]
  readonly records: LostRecords[]
}

const nothing = (): WrittenAgain => ({
  problems: [],
  revocations: [],
  disabled: [],
  frozen: [],
  grants: [],
  records: [],
})

const isNothing = (written: WrittenAgain): boolean => Object.values(written).every((list) => list.length === 0)

/** Whether an order was lifted in the history that the store has now. */
const isLifted = async (
  audit: AuditStore,
  fingerprint: Fingerprint,
  order: { readonly tenant: string; readonly user?: string; readonly at: number },
): Promise<boolean> => {
  const rows = await audit.query(
    {
      node: '*',
      tenant: order.tenant,
      ...(order.user === undefined ? {} : { user: order.user }),
      event: order.user === undefined ? 'tenant.thaw' : 'user.enable',
    },
    { limit: 1000, last: true },
  )
  return rows.some((row) => isProvedLifted(row, fingerprint, order))
}

/**
 * Changes as the store has them, with the orders of admins that are missing there and were not lifted: a party that can write
 * the store lifts no order by deleting its row, not even at a running node.
 */
export const keepOrders = async (
  deps: Pick<LookAgainDependencies, 'revocationIndex' | 'fingerprint' | 'logger'> & {
    readonly store: Pick<Store, 'audit'>
  },
  changes: RevocationChanges,
): Promise<RevocationChanges> => {
  const known = deps.revocationIndex.known()
  const isHolding = async (order: { tenant: string; user?: string; at: number }): Promise<boolean> => {
    if (await isLifted(deps.store.audit, deps.fingerprint, order)) return false
    const { tenant, user } = order
    deps.logger.error(
      { tenant, user },
      'an order of an admin is missing in the store and was not lifted: it still holds',
    )
    return true
  }
  const disabled = [...changes.disabled]
  for (const order of known.disabled) {
    const { tenant, user, at } = order
    if (changes.disabled.some((each) => each.tenant === tenant && each.user === user)) continue
    if (await isHolding({ tenant, user, at })) disabled.push(order)
  }
  const frozen = [...changes.frozen]
  for (const order of known.frozen) {
    const { tenant, at } = order
    if (changes.frozen.some((each) => each.tenant === tenant)) continue
    if (await isHolding({ tenant, at })) frozen.push(order)
  }
  return { ...changes, disabled, frozen }
}

/** Revocations and orders of admins that this node knows and the store lacks. */
const writeOrders = async (deps: LookAgainDependencies, written: WrittenAgain): Promise<void> => {
  const { store, revocationIndex, fingerprint } = deps
  const known = revocationIndex.known()
  const revocations = new Set((await store.revocations.list()).map(({ id }) => id))
  const disabled = await store.disabledUsers.list()
  const frozen = await store.frozenTenants.list()
  for (const revocation of known.revocations) {
    if (revocations.has(revocation.id) || (revocation.forgetAt ?? Infinity) <= deps.now()) continue
    const { number: _, ...lost } = revocation
    await store.revocations.add(lost)
    written.revocations.push(revocation)
  }
  for (const order of known.disabled) {
    if (disabled.some(({ tenant, user }) => tenant === order.tenant && user === order.user)) continue
    if (await isLifted(store.audit, fingerprint, order)) continue
    await store.disabledUsers.add(order)
    written.disabled.push(`${order.user} of ${order.tenant}`)
  }
  for (const order of known.frozen) {
    if (frozen.some(({ tenant }) => tenant === order.tenant)) continue
    if (await isLifted(store.audit, fingerprint, { tenant: order.tenant, at: order.at })) continue
    await store.frozenTenants.add(order)
    written.frozen.push(order.tenant)
  }
}

/**
 * Grants that this node has written lately and the store lacks. Another node may have recorded a revocation that this one has
 * not applied: revocations are read from the store as it is now.
 */
const writeGrants = async (deps: LookAgainDependencies, written: WrittenAgain, since: number): Promise<void> => {
  const { store, revocationIndex } = deps
  let seen: readonly Revocation[] | undefined
  const readVoid = async (): Promise<(grant: Grant) => boolean> => {
    seen = await store.revocations.list()
    const [known, stored] = [voidsGrant(revocationIndex), voidsGrant(new RevocationIndex(seen, []))]
    return (grant) => known(grant) || stored(grant)
  }
  const hasLost = written.problems.length > 0
  const grants = await deps.grants.writeAgain(readVoid, { now: deps.now(), hasLost, since })
  written.grants.push(...grants)
  if (seen === undefined || grants.length === 0) return
  // A revocation that came in between has not covered the grants that were written after it.
  const before = new Set(seen.map(({ id }) => id))
  deps.endAgain((await store.revocations.list()).filter(({ id }) => !before.has(id)))
}

/**
 * What a node does when the store may have lost commits: compares everything that it knows with the store, and writes again
 * what is missing there: revocations, orders of admins, the grants of the last minutes with their refresh tokens, and records
 * of the audit log. The loss is written to the log, the audit log and the store, where it stays until a person acknowledges it.
 */
export const createLookAgain = (deps: LookAgainDependencies) => {
  const { store, revocationIndex, logger } = deps
  /** Of tries that did not get to the end as well: what they have written is not missing any more. */
  let written = nothing()

  const report = async (): Promise<void> => {
    const [id, { problems, revocations, disabled, frozen, grants, records }] = [deps.newId(), written]
    const detail = {
      problem: problems.at(-1) ?? 'the store has lost what this node had written',
      written_again: {
        revocations: revocations.map((each) => ({ revocation: each.id, scope: describeScope(each.scope) })),
        disabled,
        frozen,
        grants,
        records,
      },
    }
    logger.error(
      detail,
      'the store has lost commits that it had confirmed; what this node knows is written again; see deputy status',
    )
    await deps.audit.append({ id, event: 'store.lost', outcome: 'failed', detail })
    await store.losses.add({ id, node: deps.node, at: deps.now(), detail })
    deps.endAgain(revocations)
    written = nothing()
  }

  const lookAgain = async ({ problem, last, since }: LookAgain): Promise<void> => {
    deps.emptyCaches()
    if (problem !== undefined && !written.problems.includes(problem)) written.problems.push(problem)
    // Its numbers continue above the known ones: credentials that were obtained under those are compared by them.
    // The history gets its last position back where the row of that was deleted.
    if (last.number < revocationIndex.number || (await store.cluster?.isInHistory(last)) === false)
      await store.cluster?.liftNumber(revocationIndex.number)
    await writeOrders(deps, written)
    await writeGrants(deps, written, since)
    await deps.audit.compare()
    if (isNothing(written))
      logger.info({}, 'the server of the store is another process than before, and has lost nothing')
    else await report()
  }

  return {
    lookAgain,
    /** The audit log has noticed by itself. */
    recordsLost(lost: LostRecords): void {
      written.records.push(lost)
    },
    /** Reports what was noticed without a look. */
    async reportNoticed(): Promise<void> {
      if (!isNothing(written)) await report()
    },
  }
}
