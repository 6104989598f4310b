import { toJson, type Database } from '../schema.ts'
import type { DisabledUserStore, RevocationScope, RevocationStore } from '../store.ts'

export const revocationStore = (database: Database): RevocationStore => ({
  async add({ scope, forgetAt, ...revocation }) {
    await database.insertInto('revocations').values({ ...revocation, scope: toJson(scope), forget_at: forgetAt, seq: 0 }).execute()
  },
  async list() {
    const rows = await database.selectFrom('revocations').selectAll().orderBy('epoch').execute()
    return rows.map(({ scope, forget_at: forgetAt, epoch, seq: _, ...row }) =>
      ({ ...row, epoch: Number(epoch), scope: JSON.parse(scope) as RevocationScope, forgetAt: forgetAt === null ? null : Number(forgetAt) }))
  },
  async sweep(now) { return Number((await database.deleteFrom('revocations').where('forget_at', '<=', now).executeTakeFirst()).numDeletedRows) },
})

export const disabledUserStore = (database: Database): DisabledUserStore => ({
  async add(user) {
    await database.insertInto('disabled_users').values(user).onConflict((conflict) => conflict.columns(['tenant', 'user']).doNothing()).execute()
  },
  async remove(tenant, user) {
    return (await database.deleteFrom('disabled_users').where('tenant', '=', tenant).where('user', '=', user).executeTakeFirst()).numDeletedRows > 0n
  },
  async list() { return (await database.selectFrom('disabled_users').selectAll().orderBy('tenant').orderBy('user').execute()).map((row) => ({ ...row, at: Number(row.at) })) },
})
