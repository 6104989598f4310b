import { toJson, type Database } from '../schema.ts'
import type { ReplayStore, UnknownCallerStore } from '../records/callers.ts'

export const replayStore = (database: Database): ReplayStore => ({
  async claim(namespace, value, expiresAt) {
    const { numInsertedOrUpdatedRows } = await database
      .insertInto('replays')
      .values({ namespace, value, expires_at: expiresAt })
      .onConflict((conflict) => conflict.columns(['namespace', 'value']).doNothing())
      .executeTakeFirst()
    return (numInsertedOrUpdatedRows ?? 0n) > 0n
  },
  async has(namespace, value, now) {
    return (
      (await database
        .selectFrom('replays')
        .select('value')
        .where('namespace', '=', namespace)
        .where('value', '=', value)
        .where('expires_at', '>', now)
        .executeTakeFirst()) !== undefined
    )
  },
  async sweep(now) {
    return Number(
      (await database.deleteFrom('replays').where('expires_at', '<=', now).executeTakeFirst()).numDeletedRows,
    )
  },
})

export const unknownCallerStore = (database: Database): UnknownCallerStore => ({
  async record(id, facts, at) {
    await database
      .insertInto('unknown_callers')
      .values({ id, facts: toJson(facts), first_seen: at, last_seen: at, count: 1 })
      .onConflict((conflict) =>
        conflict
          .column('id')
          .doUpdateSet((eb) => ({ facts: toJson(facts), last_seen: at, count: eb('unknown_callers.count', '+', 1) })),
      )
      .execute()
  },
  async list() {
    const rows = await database.selectFrom('unknown_callers').selectAll().orderBy('last_seen', 'desc').execute()
    return rows.map((row) => ({
      id: row.id,
      facts: JSON.parse(row.facts) as Record<string, string | number>,
      firstSeen: Number(row.first_seen),
      lastSeen: Number(row.last_seen),
      count: Number(row.count),
    }))
  },
  async forget(id) {
    return (await database.deleteFrom('unknown_callers').where('id', '=', id).executeTakeFirst()).numDeletedRows > 0n
  },
})
