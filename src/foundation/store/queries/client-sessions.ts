import type { Selectable } from 'kysely'
import type { Database, Tables } from '../schema.ts'
import type { ClientSession, ClientSessionFilter, ClientSessionStore } from '../records/client-sessions.ts'

const fromRow = ({
  created_at: createdAt,
  used_at: usedAt,
  expires_at: expiresAt,
  ...row
}: Selectable<Tables['client_sessions']>): ClientSession => ({
  ...row,
  createdAt: Number(createdAt),
  usedAt: Number(usedAt),
  expiresAt: Number(expiresAt),
})

const COLUMNS = ['id', 'tenant', 'user', 'client', 'server'] as const

/** @returns the members of the filter that are there, as columns and values */
const conditions = (filter: ClientSessionFilter) =>
  COLUMNS.flatMap((column) => (filter[column] === undefined ? [] : [[column, filter[column]] as const]))

export const clientSessionStore = (database: Database): ClientSessionStore => ({
  async put({ createdAt, usedAt, expiresAt, ...session }) {
    const row = { ...session, created_at: createdAt, used_at: usedAt, expires_at: expiresAt }
    await database
      .insertInto('client_sessions')
      .values(row)
      .onConflict((conflict) => conflict.column('id').doUpdateSet(row))
      .execute()
  },
  async find(id, now) {
    const row = await database
      .selectFrom('client_sessions')
      .selectAll()
      .where('id', '=', id)
      .where('expires_at', '>', now)
      .executeTakeFirst()
    return row === undefined ? undefined : fromRow(row)
  },
  async list(filter, limit) {
    let query = database.selectFrom('client_sessions').selectAll()
    for (const [column, value] of conditions(filter)) query = query.where(column, '=', value)
    query = query.orderBy('created_at', 'desc').orderBy('id')
    return (await (limit === undefined ? query : query.limit(limit)).execute()).map(fromRow)
  },
  async byClient() {
    const rows = await database
      .selectFrom('client_sessions')
      .select(({ fn }) => [
        'client',
        fn.countAll().as('sessions'),
        fn.min('created_at').as('first_at'),
        fn.max('used_at').as('last_at'),
      ])
      .groupBy('client')
      .orderBy('client')
      .execute()
    return rows.map(({ client, sessions, first_at: firstAt, last_at: lastAt }) => ({
      client,
      sessions: Number(sessions),
      firstAt: Number(firstAt),
      lastAt: Number(lastAt),
    }))
  },
  async touch(id, usedAt) {
    const { numUpdatedRows } = await database
      .updateTable('client_sessions')
      .set({ used_at: usedAt })
      .where('id', '=', id)
      .executeTakeFirst()
    return numUpdatedRows > 0n
  },
  async remove(filter) {
    let chosen = database.selectFrom('client_sessions').select('id')
    for (const [column, value] of conditions(filter)) chosen = chosen.where(column, '=', value)
    // The records first: what a stop in between leaves is a session without them, which the next call removes.
    await database.deleteFrom('authorization_records').where('session', 'in', chosen).execute()
    let query = database.deleteFrom('client_sessions')
    for (const [column, value] of conditions(filter)) query = query.where(column, '=', value)
    return Number((await query.executeTakeFirst()).numDeletedRows)
  },
  async sweep(now) {
    return Number(
      (await database.deleteFrom('client_sessions').where('expires_at', '<=', now).executeTakeFirst()).numDeletedRows,
    )
  },
})
