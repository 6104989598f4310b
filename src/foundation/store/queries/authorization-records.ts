import type { Selectable } from 'kysely'
import type { Atomically, Database, Tables } from '../schema.ts'
import type { AuthorizationRecord, AuthorizationRecordStore } from '../records/authorization-records.ts'

const fromRow = ({
  user_code: userCode,
  expires_at: expiresAt,
  consumed_at: consumedAt,
  ...row
}: Selectable<Tables['authorization_records']>): AuthorizationRecord => ({
  ...row,
  userCode,
  expiresAt: Number(expiresAt),
  consumedAt: consumedAt === null ? null : Number(consumedAt),
})

const write = (database: Database, { userCode, expiresAt, ...record }: Omit<AuthorizationRecord, 'consumedAt'>) => {
  const row = { ...record, user_code: userCode, expires_at: expiresAt }
  return database
    .insertInto('authorization_records')
    .values({ ...row, consumed_at: null })
    .onConflict((conflict) => conflict.columns(['kind', 'id']).doUpdateSet(row))
}

// One statement: of many that ask at once the database lets one have it.
const use = (database: Database, kind: string, id: string, now: number) =>
  database
    .updateTable('authorization_records')
    .set({ consumed_at: now })
    .where('kind', '=', kind)
    .where('id', '=', id)
    .where('consumed_at', 'is', null)

export const authorizationRecordStore = (database: Database, atomically: Atomically): AuthorizationRecordStore => ({
  async put(record) {
    await write(database, record).execute()
  },
  async rotate({ id, at }, successor) {
    await atomically([use(database, successor.kind, id, at).compile(), write(database, successor).compile()])
  },
  async find(kind, id, now) {
    const row = await database
      .selectFrom('authorization_records')
      .selectAll()
      .where('kind', '=', kind)
      .where('id', '=', id)
      .where('expires_at', '>', now)
      .executeTakeFirst()
    return row === undefined ? undefined : fromRow(row)
  },
  async findByUserCode(kind, userCode, now) {
    const row = await database
      .selectFrom('authorization_records')
      .selectAll()
      .where('user_code', '=', userCode)
      .where('kind', '=', kind)
      .where('expires_at', '>', now)
      .executeTakeFirst()
    return row === undefined ? undefined : fromRow(row)
  },
  async findAt(kind, session, position) {
    const row = await database
      .selectFrom('authorization_records')
      .selectAll()
      .where('session', '=', session)
      .where('kind', '=', kind)
      .where('position', '=', position)
      .executeTakeFirst()
    return row === undefined ? undefined : fromRow(row)
  },
  async consume(kind, id, now) {
    const { numUpdatedRows } = await use(database, kind, id, now).executeTakeFirst()
    return numUpdatedRows > 0n
  },
  async remove(kind, id) {
    const { numDeletedRows } = await database
      .deleteFrom('authorization_records')
      .where('kind', '=', kind)
      .where('id', '=', id)
      .executeTakeFirst()
    return numDeletedRows > 0n
  },
  async removeOf(session) {
    return Number(
      (await database.deleteFrom('authorization_records').where('session', '=', session).executeTakeFirst())
        .numDeletedRows,
    )
  },
  async sweep(now) {
    return Number(
      (await database.deleteFrom('authorization_records').where('expires_at', '<=', now).executeTakeFirst())
        .numDeletedRows,
    )
  },
})
