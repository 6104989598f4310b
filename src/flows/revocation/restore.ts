import { z } from 'zod'
import { type AuditEvent, type AuditLog, recordPages } from '#foundation/audit'
import type { Fingerprint } from '#foundation/crypto'
import type { AuditRow, AuditStore, Revocation, RevocationScope, Store } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import { recordedScopeSchema } from '#identity/validity'
import { liftProofOf, type LastingOrder } from './lifted.ts'

/** A revocation in its audit record; records of earlier versions have less, and cannot be restored. */
const revocationSchema = z.object({
  detail: z.object({
    revocation: z.string(),
    by: z.string(),
    reason: z.string().nullable(),
    epoch: z.number(),
    forget_at: z.number().nullable(),
    covers: recordedScopeSchema,
  }),
})
const bySchema = z
  .object({ detail: z.object({ by: z.string().default('unknown'), reason: z.string().nullish() }) })
  .catch({ detail: { by: 'unknown', reason: null } })

/** Later versions write this into orders that hold until they are lifted, and into the records that lift them. */
const liftSchema = z
  .object({ detail: z.object({ since: z.number().optional(), proof: z.string().optional() }) })
  .catch({ detail: {} })

/** The record of a row; undefined for a row that was altered and is no record any more. */
const recordIn = ({ body }: Pick<AuditRow, 'body'>): unknown => {
  try {
    return JSON.parse(body)
  } catch {
    return undefined
  }
}

/** Whether a record proves that the daemon has lifted this very order. */
export const isProvedLifted = (row: AuditRow, fingerprint: Fingerprint, order: LastingOrder): boolean =>
  liftSchema.parse(recordIn(row)).detail.proof === liftProofOf(fingerprint, order)

/** Since when an order holds, as its record says (ms since the epoch). */
const sinceOf = (row: AuditRow): number | undefined => liftSchema.parse(recordIn(row)).detail.since

const PAGE = 10_000

export interface RestoreDependencies {
  readonly store: Store
  readonly audit: AuditLog
  readonly now: number
  readonly correlationId: string
  readonly fingerprint: Fingerprint
  readonly logger: Logger
}

/**
 * Compares revocations, disabled users and frozen tenants with the orders in the audit log, which is a chain: an order that
 * is missing in the store is put back and logged as an error. A party that can write the store undoes no order by deleting
 * its row.
 * @returns how many orders were put back
 */
export const restoreOrders = async (deps: RestoreDependencies): Promise<number> =>
  (await restoreRevocations(deps)) + (await restoreDisabled(deps)) + (await restoreFrozen(deps))

/** @returns how many were put back */
const restoreRevocations = async (deps: RestoreDependencies): Promise<number> => {
  const { store, logger } = deps
  const known = new Set((await store.revocations.list()).map(({ id }) => id))
  let restored = 0
  for (const row of await recordsOf(store.audit, ['revocation'])) {
    const record = recordIn(row)
    if (record === undefined) logger.error({ record: row.id }, 'an audit record was altered and is no record any more')
    const parsed = revocationSchema.safeParse(record).data?.detail
    if (parsed === undefined || known.has(parsed.revocation)) continue
    if (parsed.forget_at !== null && parsed.forget_at <= deps.now) continue
    const revocation: Revocation = {
      id: parsed.revocation,
      scope: parsed.covers as RevocationScope,
      epoch: parsed.epoch,
      by: parsed.by,
      reason: parsed.reason,
      forgetAt: parsed.forget_at,
    }
    await putBack(deps, `revocation ${revocation.id}`, () => store.revocations.add(revocation))
    restored += 1
  }
  return restored
}

/** @returns how many were put back */
const restoreDisabled = async (deps: RestoreDependencies): Promise<number> => {
  const { disabledUsers } = deps.store
  const disabled = await disabledUsers.list()
  let restored = 0
  for (const row of await lastOrders(deps, 'user.disable', 'user.enable')) {
    const { tenant, user } = row
    const at = sinceOf(row) ?? row.at
    if (tenant === null || user === null) continue
    if (disabled.some((each) => each.tenant === tenant && each.user === user)) continue
    const { by } = bySchema.parse(recordIn(row)).detail
    await putBack(deps, `user ${user} of ${tenant} is disabled`, () => disabledUsers.add({ tenant, user, at, by }))
    restored += 1
  }
  return restored
}

/** @returns how many were put back */
const restoreFrozen = async (deps: RestoreDependencies): Promise<number> => {
  const { frozenTenants } = deps.store
  const frozen = await frozenTenants.list()
  let restored = 0
  for (const row of await lastOrders(deps, 'tenant.freeze', 'tenant.thaw')) {
    const { tenant } = row
    const at = sinceOf(row) ?? row.at
    if (tenant === null || frozen.some((each) => each.tenant === tenant)) continue
    const { by, reason = null } = bySchema.parse(recordIn(row)).detail
    await putBack(deps, `tenant ${tenant} is frozen`, () => frozenTenants.add({ tenant, at, by, reason }))
    restored += 1
  }
  return restored
}

const putBack = async (deps: RestoreDependencies, what: string, add: () => Promise<unknown>): Promise<void> => {
  await add()
  deps.logger.error(
    { what },
    'an order of the audit log was missing in the store and was restored: the store was altered, or an older copy of the store or of the audit log was put back',
  )
  await deps.audit.append({
    id: deps.correlationId,
    event: 'order.restored',
    outcome: 'done',
    detail: { what, problem: 'the audit log has the order, and the store had lost it' },
  })
}

/**
 * The last order for each name that was not lifted. An order whose record says since when it holds is lifted only by a record
 * with a proof; records of earlier versions have none, and of them the last record counts.
 */
const lastOrders = async (deps: RestoreDependencies, on: AuditEvent, off: AuditEvent): Promise<readonly AuditRow[]> => {
  const rows = await recordsOf(deps.store.audit, [on, off])
  const proofs = new Set(rows.map((row) => liftSchema.parse(recordIn(row)).detail.proof))
  const last = new Map<string, AuditRow>()
  for (const row of rows) last.set(JSON.stringify([row.tenant, row.user]), row)
  const holding = new Map([...last].filter(([, row]) => row.event === on && sinceOf(row) === undefined))
  for (const row of rows) {
    const [since, { tenant, user }] = [sinceOf(row), row]
    if (row.event !== on || since === undefined || tenant === null) continue
    const order = { tenant, at: since, ...(user === null ? {} : { user }) }
    if (!proofs.has(liftProofOf(deps.fingerprint, order))) holding.set(JSON.stringify([tenant, user]), row)
  }
  return [...holding.values()]
}

/** Records of these events: in the order of each chain, whatever the clock said then; between chains by their times. */
const recordsOf = async (audit: AuditStore, events: readonly string[]): Promise<AuditRow[]> => {
  const found: { readonly row: AuditRow; readonly at: number }[] = []
  for (const node of await audit.chains()) {
    const rows: AuditRow[] = []
    for (const event of events)
      for await (const page of recordPages(audit, { node, event, outcome: 'done' }, PAGE)) rows.push(...page)
    let latest = 0
    for (const row of rows.sort((a, b) => a.seq - b.seq)) found.push({ row, at: (latest = Math.max(latest, row.at)) })
  }
  return found.sort((a, b) => a.at - b.at).map(({ row }) => row)
}
