import type { Selectable } from 'kysely'
import type { Database, Tables } from '../schema.ts'
import type { Attempt, AttemptStore } from '../records/attempts.ts'

const fromRow = (row: Selectable<Tables['attempts']>): Attempt => ({
  id: row.id,
  kind: row.kind,
  tenant: row.tenant,
  sealed: row.sealed,
  expiresAt: Number(row.expires_at),
})

export const attemptStore = (database: Database): AttemptStore => ({
  async put({ expiresAt, ...attempt }) {
    await database
      .insertInto('attempts')
      .values({ ...attempt, expires_at: expiresAt })
      .execute()
  },
  async find(kind, id, now) {
    const row = await database
      .selectFrom('attempts')
      .selectAll()
      .where('kind', '=', kind)
      .where('id', '=', id)
      .where('expires_at', '>', now)
      .executeTakeFirst()
    return row === undefined ? undefined : fromRow(row)
  },
  async take(kind, id, now) {
    // One statement: of many that ask at once the database lets one have it.
    const row = await database
      .deleteFrom('attempts')
      .where('kind', '=', kind)
      .where('id', '=', id)
      .returningAll()
      .executeTakeFirst()
    return row === undefined || Number(row.expires_at) <= now ? undefined : fromRow(row)
  },
  async sweep(now) {
    return Number(
      (await database.deleteFrom('attempts').where('expires_at', '<=', now).executeTakeFirst()).numDeletedRows,
    )
  },
})
