import { sql, type Selectable } from 'kysely'
import type { Database, Tables } from '../schema.ts'
import type { ClientRecord, ClientRecordStore } from '../records/clients.ts'

const fromRow = ({
  created_at: createdAt,
  used_at: usedAt,
  expires_at: expiresAt,
  ...row
}: Selectable<Tables['clients']>): ClientRecord => ({
  ...row,
  createdAt: Number(createdAt),
  usedAt: usedAt === null ? null : Number(usedAt),
  expiresAt: Number(expiresAt),
})

export const clientRecordStore = (database: Database): ClientRecordStore => ({
  async find(id, now) {
    const row = await database
      .selectFrom('clients')
      .selectAll()
      .where('id', '=', id)
      .where('expires_at', '>', now)
      .executeTakeFirst()
    return row === undefined ? undefined : fromRow(row)
  },
  async add({ createdAt, expiresAt, ...client }) {
    const { numInsertedOrUpdatedRows: added } = await database
      .insertInto('clients')
      .values({ ...client, created_at: createdAt, used_at: null, expires_at: expiresAt })
      .onConflict((conflict) => conflict.column('id').doNothing())
      .executeTakeFirst()
    return (added ?? 0n) > 0n
  },
  async replace(id, was, sealed) {
    const { numUpdatedRows } = await database
      .updateTable('clients')
      .set({ sealed })
      .where('id', '=', id)
      .where('sealed', '=', was)
      .executeTakeFirst()
    return numUpdatedRows > 0n
  },
  async used(id, usedAt, expiresAt) {
    await database
      .updateTable('clients')
      .set({
        ...(usedAt === null ? {} : { used_at: usedAt }),
        expires_at: sql<number>`case when expires_at > ${expiresAt} then expires_at else ${expiresAt} end`,
      })
      .where('id', '=', id)
      .execute()
  },
  async unused(limit, now) {
    const counted = database
      .selectFrom('clients')
      .select('id')
      .where('used_at', 'is', null)
      .where('expires_at', '>', now)
      .limit(limit)
      .as('counted')
    const { count } = await database
      .selectFrom(counted)
      .select(({ fn }) => fn.countAll().as('count'))
      .executeTakeFirstOrThrow()
    return Number(count)
  },
  async list(limit) {
    const rows = await database
      .selectFrom('clients')
      .selectAll()
      .orderBy(sql`case when used_at is null then 1 else 0 end`)
      .orderBy('created_at', 'desc')
      .orderBy('id')
      .limit(limit)
      .execute()
    return rows.map(fromRow)
  },
  async remove(id) {
    return (await database.deleteFrom('clients').where('id', '=', id).executeTakeFirst()).numDeletedRows > 0n
  },
  async sweep(now) {
    return Number(
      (await database.deleteFrom('clients').where('expires_at', '<=', now).executeTakeFirst()).numDeletedRows,
    )
  },
})
