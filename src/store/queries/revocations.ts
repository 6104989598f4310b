import { sql, type CompiledQuery } from 'kysely'
import { STANDING, toJson, type Atomically, type Database } from '../schema.ts'
import type {
  DisabledUserStore,
  FrozenTenantStore,
  Revocation,
  RevocationScope,
  RevocationStore,
} from '../records/revocations.ts'

/** Makes changes of the standing: numbered one after the other, and told to the nodes when they are durable. */
export interface StandingWriter {
  /** @param change sees the number that it gets as `(select value from epochs …)` */
  write(change: CompiledQuery): Promise<number>
}

/** @param notify what tells the other nodes, within the transaction */
export const standingWriter = (
  database: Database,
  atomically: Atomically,
  notify: readonly CompiledQuery[] = [],
): StandingWriter => ({
  async write(change) {
    await atomically([
      sql`update epochs set value = value + 1 where name = ${STANDING}`.compile(database),
      change,
      ...notify,
    ])
    // It may be a later one's by now: whoever waits for that waits for this as well.
    const row = await database
      .selectFrom('epochs')
      .select('value')
      .where('name', '=', STANDING)
      .executeTakeFirstOrThrow()
    return Number(row.value)
  },
})

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
    writer.write(
      database
        .insertInto('revocations')
        .values({
          ...revocation,
          scope: toJson(scope),
          forget_at: forgetAt,
          seq: sql<number>`(select value from epochs where name = ${STANDING})`,
        })
        .compile(),
    ),
  async list() {
    return (await database.selectFrom('revocations').selectAll().orderBy('epoch').execute()).map(toRevocation)
  },
  async sweep(now) {
    return Number(
      (await database.deleteFrom('revocations').where('forget_at', '<=', now).executeTakeFirst()).numDeletedRows,
    )
  },
})

export const disabledUserStore = (database: Database, writer: StandingWriter): DisabledUserStore => ({
  add: (user) =>
    writer.write(
      database
        .insertInto('disabled_users')
        .values(user)
        .onConflict((conflict) => conflict.columns(['tenant', 'user']).doNothing())
        .compile(),
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
    writer.write(
      database
        .insertInto('frozen_tenants')
        .values(tenant)
        .onConflict((conflict) => conflict.column('tenant').doNothing())
        .compile(),
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
