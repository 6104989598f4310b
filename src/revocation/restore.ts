import { z } from 'zod'
import type { AuditLog } from '../audit/record.ts'
import type { Logger } from '../observe/logger.ts'
import type { AuditRow } from '../store/records/audit.ts'
import type { Revocation, RevocationScope } from '../store/records/revocations.ts'
import type { Store } from '../store/store.ts'

/** What the audit record of a revocation keeps of it; records of earlier versions have less, and cannot be restored. */
const revocationSchema = z.object({
  detail: z.object({
    revocation: z.string(),
    by: z.string(),
    reason: z.string().nullable(),
    epoch: z.number(),
    forget_at: z.number().nullable(),
    covers: z.looseObject({ kind: z.string() }),
  }),
})
const bySchema = z.object({ detail: z.object({ by: z.string().default('unknown'), reason: z.string().nullish() }) })

const PAGE = 10_000

/**
 * Compares revocations, disabled users and frozen tenants with the orders in the audit log, which is a chain: what was
 * ordered and is missing in the store is put back, and said loudly. Who can write the store undoes no order by
 * deleting its row.
 * @returns how many orders were put back
 */
export const restoreOrders = async (deps: {
  readonly store: Store
  readonly audit: AuditLog
  readonly now: number
  readonly correlationId: string
  readonly logger: Logger
}): Promise<number> => {
  const { store, logger } = deps
  let restored = 0

  const recordsOf = async (event: string): Promise<AuditRow[]> => {
    const rows: AuditRow[] = []
    for (const node of await store.audit.chains()) {
      for (let afterSeq = 0; ;) {
        const page = await store.audit.query({ node, event, outcome: 'done', afterSeq }, { limit: PAGE })
        rows.push(...page)
        const last = page.at(-1)
        if (last === undefined || page.length < PAGE) break
        afterSeq = last.seq
      }
    }
    return rows.sort((a, b) => a.at - b.at)
  }

  const putBack = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    await work()
    restored += 1
    logger.error(
      { what },
      'an order of an admin was missing in the store and was put back: the store was tampered with',
    )
    await deps.audit.append({
      id: deps.correlationId,
      event: 'order.restored',
      outcome: 'done',
      detail: { what, problem: 'the audit log has the order, and the store had lost it' },
    })
  }

  const restoreRevocations = async (): Promise<void> => {
    const known = new Set((await store.revocations.list()).map(({ id }) => id))
    for (const { body } of await recordsOf('revocation')) {
      const parsed = revocationSchema.safeParse(JSON.parse(body)).data?.detail
      if (parsed === undefined || known.has(parsed.revocation)) continue
      if (parsed.forget_at !== null && parsed.forget_at <= deps.now) continue
      const revocation: Revocation = {
        id: parsed.revocation,
        scope: parsed.covers as unknown as RevocationScope,
        epoch: parsed.epoch,
        by: parsed.by,
        reason: parsed.reason,
        forgetAt: parsed.forget_at,
      }
      await putBack(`revocation ${revocation.id}`, () => store.revocations.add(revocation))
    }
  }

  /** The last order for each name: whether it holds, and who gave it. */
  const lastOrders = async (on: string, off: string): Promise<readonly AuditRow[]> => {
    const last = new Map<string, AuditRow>()
    for (const row of [...(await recordsOf(on)), ...(await recordsOf(off))].sort((a, b) => a.at - b.at))
      last.set(JSON.stringify([row.tenant, row.user]), row)
    return [...last.values()].filter(({ event }) => event === on)
  }

  const restoreDisabled = async (): Promise<void> => {
    const disabled = await store.disabledUsers.list()
    for (const { tenant, user, at, body } of await lastOrders('user.disable', 'user.enable')) {
      if (tenant === null || user === null) continue
      if (disabled.some((each) => each.tenant === tenant && each.user === user)) continue
      const { by } = bySchema.parse(JSON.parse(body)).detail
      await putBack(`user ${user} of ${tenant} is disabled`, () => store.disabledUsers.add({ tenant, user, at, by }))
    }
  }

  const restoreFrozen = async (): Promise<void> => {
    const frozen = await store.frozenTenants.list()
    for (const { tenant, at, body } of await lastOrders('tenant.freeze', 'tenant.thaw')) {
      if (tenant === null || frozen.some((each) => each.tenant === tenant)) continue
      const { by, reason = null } = bySchema.parse(JSON.parse(body)).detail
      await putBack(`tenant ${tenant} is frozen`, () => store.frozenTenants.add({ tenant, at, by, reason }))
    }
  }

  await restoreRevocations()
  await restoreDisabled()
  await restoreFrozen()
  return restored
}
