import type { Selectable } from 'kysely'
import type { Database, Tables } from '../schema.ts'
import type { UpstreamRevocation, UpstreamRevocationStore } from '../records/upstream-revocations.ts'

const fromRow = (row: Selectable<Tables['upstream_revocations']>): UpstreamRevocation => ({
  id: row.id,
  grant: row.grant_id,
  tenant: row.tenant,
  provider: row.provider,
  sealed: row.sealed,
  attempts: Number(row.attempts),
  nextAt: Number(row.next_at),
  state: row.state as UpstreamRevocation['state'],
  problem: row.problem,
})

export const upstreamRevocationStore = (database: Database): UpstreamRevocationStore => ({
  async put({ grant, nextAt, ...entry }) {
    const row = { ...entry, grant_id: grant, next_at: nextAt }
    await database
      .insertInto('upstream_revocations')
      .values(row)
      .onConflict((conflict) => conflict.column('id').doUpdateSet(row))
      .execute()
  },
  async due(now, limit) {
    const rows = await database
      .selectFrom('upstream_revocations')
      .selectAll()
      .where('state', '=', 'queued')
      .where('next_at', '<=', now)
      .orderBy('next_at')
      .limit(limit)
      .execute()
    return rows.map(fromRow)
  },
  async list() {
    return (await database.selectFrom('upstream_revocations').selectAll().orderBy('next_at').execute()).map(fromRow)
  },
  async claim({ id, attempts }, nextAt) {
    const { numUpdatedRows } = await database
      .updateTable('upstream_revocations')
      .set({ attempts: attempts + 1, next_at: nextAt })
      .where('id', '=', id)
      .where('attempts', '=', attempts)
      .where('state', '=', 'queued')
      .executeTakeFirst()
    return numUpdatedRows === 1n
  },
  async remove(id) {
    await database.deleteFrom('upstream_revocations').where('id', '=', id).execute()
  },
})
