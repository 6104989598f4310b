import type { Selectable } from 'kysely'
import type { Database, Tables } from '../schema.ts'
import type { BackendToken, BackendTokenStore } from '../records/backend-tokens.ts'

const fromRow = (row: Selectable<Tables['backend_tokens']>): BackendToken => ({
  accessor: row.accessor,
  backend: row.backend,
  place: row.place,
  sealed: row.sealed,
  endsAt: Number(row.ends_at),
  nextAt: Number(row.next_at),
  attempts: Number(row.attempts),
  revision: Number(row.revision),
})

export const backendTokenStore = (database: Database): BackendTokenStore => ({
  async put({ accessor, backend, place, sealed, endsAt, nextAt, attempts, revision }) {
    const times = { ends_at: endsAt, next_at: nextAt, attempts }
    await database
      .insertInto('backend_tokens')
      .values({ accessor, backend, place, sealed, revision, ...times })
      .onConflict((conflict) =>
        conflict
          .column('accessor')
          .doUpdateSet((row) => ({ ...times, revision: row('backend_tokens.revision', '+', 1) })),
      )
      .execute()
  },
  async find(accessor) {
    const row = await database
      .selectFrom('backend_tokens')
      .selectAll()
      .where('accessor', '=', accessor)
      .executeTakeFirst()
    return row === undefined ? undefined : fromRow(row)
  },
  async update({ accessor, endsAt, nextAt, attempts, revision }) {
    const { numUpdatedRows } = await database
      .updateTable('backend_tokens')
      .set({ ends_at: endsAt, next_at: nextAt, attempts, revision: revision + 1 })
      .where('accessor', '=', accessor)
      .where('revision', '=', revision)
      .executeTakeFirst()
    return numUpdatedRows === 1n
  },
  async remove(accessor) {
    await database.deleteFrom('backend_tokens').where('accessor', '=', accessor).execute()
  },
  async due(backend, now, limit) {
    return (
      await database
        .selectFrom('backend_tokens')
        .selectAll()
        .where('backend', '=', backend)
        .where('next_at', '<=', now)
        .orderBy('next_at')
        .limit(limit)
        .execute()
    ).map(fromRow)
  },
})
