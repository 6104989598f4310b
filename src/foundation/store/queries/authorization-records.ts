import type { Selectable } from 'kysely'
import type { Database, Tables } from '../schema.ts'
import { compileOnce } from './compile-once.ts'
import type {
  AuthorizationRecord,
  AuthorizationRecordStore,
  NewAuthorizationRecord,
} from '../records/authorization-records.ts'

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

const write = (database: Database, record: NewAuthorizationRecord) => {
  const row = {
    kind: record.kind,
    id: record.id,
    tenant: record.tenant,
    session: record.session,
    user_code: record.userCode,
    position: record.position,
    sealed: record.sealed,
    expires_at: record.expiresAt,
  }
  return database
    .insertInto('authorization_records')
    .values({ ...row, consumed_at: null })
    .onConflict((conflict) => conflict.columns(['kind', 'id']).doUpdateSet(row))
}

interface Key {
  readonly kind: string
  readonly id: string
  /** ms since the epoch. */
  readonly now: number
}

// One statement: of many that ask at once the database lets one have it.
const use = (database: Database, { kind, id, now }: Key) =>
  database
    .updateTable('authorization_records')
    .set({ consumed_at: now })
    .where('kind', '=', kind)
    .where('id', '=', id)
    .where('consumed_at', 'is', null)

const compiledFor = (database: Database) => ({
  write: compileOnce((record: NewAuthorizationRecord) => write(database, record)),
  use: compileOnce((key: Key) => use(database, key)),
  find: compileOnce(({ kind, id, now }: Key) =>
    database
      .selectFrom('authorization_records')
      .selectAll()
      .where('kind', '=', kind)
      .where('id', '=', id)
      .where('expires_at', '>', now),
  ),
})

export const authorizationRecordStore = (
  database: Database,
  compiled = compiledFor(database),
): AuthorizationRecordStore => ({
  async put(record) {
    await database.executeQuery(compiled.write(record))
  },
  write: (record) => ({ statements: [compiled.write(record)] }),
  rotation: ({ id, at }, successor) => ({
    statements: [compiled.use({ kind: successor.kind, id, now: at }), compiled.write(successor)],
  }),
  async find(kind, id, now) {
    const { rows } = await database.executeQuery(compiled.find({ kind, id, now }))
    return rows[0] === undefined ? undefined : fromRow(rows[0])
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
    const { numAffectedRows } = await database.executeQuery(compiled.use({ kind, id, now }))
    return (numAffectedRows ?? 0n) > 0n
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
