import { sql, type Compilable, type CompiledQuery, type OperationNodeSource, type RawBuilder } from 'kysely'
import { STANDING, toJson, type Atomically, type Database } from '../schema.ts'
import type {
  DisabledUserStore,
  FrozenTenantStore,
  Position,
  Revocation,
  RevocationScope,
  RevocationStore,
} from '../records/revocations.ts'

/** Makes changes of the standing: numbered one after the other, and told to the nodes when they are durable. */
export interface StandingWriter {
  /** Adds a row. @param insertion is given the number of the change, as SQL */
  add(insertion: (number: RawBuilder<number>) => Compilable & OperationNodeSource): Promise<Position>
  /** Writes what has to see all changes before it, such as the removal of a row that one of them has added. */
  write(change: CompiledQuery): Promise<Position>
}

/** The statements that begin a new place in the history. @param above the least number that counts as used */
export const nextPosition = (database: Database, randomText: string, above = 0): CompiledQuery[] => [
  sql`update epochs set value = (case when value < ${above} then ${above} else value end) + 1, token = ${sql.raw(randomText)} where name = ${STANDING}`.compile(
    database,
  ),
  sql`insert into standing_history (number, token) select value, token from epochs where name = ${STANDING}`.compile(
    database,
  ),
]

/**
 * @param options.randomText draws a text that was never drawn before, in SQL
 * @param options.notify what tells the other nodes, within the transaction
 */
export const standingWriter = (
  database: Database,
  atomically: Atomically,
  { randomText, notify = [] }: { randomText: string; notify?: readonly CompiledQuery[] },
): StandingWriter => {
  const write = async (change: CompiledQuery): Promise<Position> => {
    await atomically([...nextPosition(database, randomText), change, ...notify])
    // It may be that of a later revocation by now: a wait for that one covers this one too.
    const row = await database
      .selectFrom('epochs')
      .select(['value', 'token'])
      .where('name', '=', STANDING)
      .executeTakeFirstOrThrow()
    return { number: Number(row.value), token: row.token ?? '' }
  }
  return {
    write,
    add: (insertion) => write(insertion(sql<number>`(select value from epochs where name = ${STANDING})`).compile()),
  }
}

/** Places of the history that are kept. */
const HISTORY = 100_000

interface StoredRevocation {
  id: string
  scope: string
  epoch: number
  by: string
  reason: string | null
  forget_at: number | null
  seq: number
}

export const toRevocation = ({
  id,
  scope,
  epoch,
  by,
  reason,
  forget_at: forgetAt,
  seq,
}: StoredRevocation): Revocation => ({
  id,
  by,
  reason,
  epoch: Number(epoch),
  scope: JSON.parse(scope) as RevocationScope,
  forgetAt: forgetAt === null ? null : Number(forgetAt),
  number: Number(seq),
})

export const revocationStore = (database: Database, writer: StandingWriter): RevocationStore => ({
  add: ({ scope, forgetAt, ...revocation }) =>
    writer.add((number) =>
      database
        .insertInto('revocations')
        .values({ ...revocation, scope: toJson(scope), forget_at: forgetAt, seq: number })
        // Written again, it is read by the nodes that have passed its first number.
        .onConflict((conflict) => conflict.column('id').doUpdateSet({ seq: number })),
    ),
  async list() {
    return (await database.selectFrom('revocations').selectAll().orderBy('epoch').execute()).map(toRevocation)
  },
  async sweep(now) {
    // No node that lives is so far behind; one that was asleep for so long reads everything anew.
    await sql`delete from standing_history where number < (select value from epochs where name = ${STANDING}) - ${HISTORY}`.execute(
      database,
    )
    return Number(
      (await database.deleteFrom('revocations').where('forget_at', '<=', now).executeTakeFirst()).numDeletedRows,
    )
  },
})

export const disabledUserStore = (database: Database, writer: StandingWriter): DisabledUserStore => ({
  add: (user) =>
    writer.add(() =>
      database
        .insertInto('disabled_users')
        .values(user)
        .onConflict((conflict) => conflict.columns(['tenant', 'user']).doNothing()),
    ),
  async remove(tenant, user) {
    const was = await database
      .selectFrom('disabled_users')
      .select('at')
      .where('tenant', '=', tenant)
      .where('user', '=', user)
      .executeTakeFirst()
    await writer.write(
      database.deleteFrom('disabled_users').where('tenant', '=', tenant).where('user', '=', user).compile(),
    )
    return was !== undefined
  },
  async list() {
    return (await database.selectFrom('disabled_users').selectAll().orderBy('tenant').orderBy('user').execute()).map(
      (row) => ({ ...row, at: Number(row.at) }),
    )
  },
})

export const frozenTenantStore = (database: Database, writer: StandingWriter): FrozenTenantStore => ({
  add: (tenant) =>
    writer.add(() =>
      database
        .insertInto('frozen_tenants')
        .values(tenant)
        .onConflict((conflict) => conflict.column('tenant').doNothing()),
    ),
  async remove(tenant) {
    const was = await database.selectFrom('frozen_tenants').select('at').where('tenant', '=', tenant).executeTakeFirst()
    await writer.write(database.deleteFrom('frozen_tenants').where('tenant', '=', tenant).compile())
    return was !== undefined
  },
  async list() {
    return (await database.selectFrom('frozen_tenants').selectAll().orderBy('tenant').execute()).map((row) => ({
      ...row,
      at: Number(row.at),
    }))
  },
})
