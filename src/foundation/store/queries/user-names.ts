import type { Database } from '../schema.ts'
import type { UserNameStore } from '../records/user-names.ts'

export const userNameStore = (database: Database): UserNameStore => ({
  async put({ seenAt, ...name }) {
    const row = { ...name, seen_at: seenAt }
    await database
      .insertInto('user_names')
      .values(row)
      .onConflict((conflict) => conflict.columns(['tenant', 'user']).doUpdateSet(row))
      .execute()
  },
  async list({ name, tenant }) {
    let query = database.selectFrom('user_names').selectAll().where('name', '=', name)
    if (tenant !== undefined) query = query.where('tenant', '=', tenant)
    const rows = await query.orderBy('tenant').orderBy('user').execute()
    return rows.map(({ seen_at: seenAt, ...row }) => ({ ...row, seenAt: Number(seenAt) }))
  },
  async has(tenant, user) {
    return (
      (await database
        .selectFrom('user_names')
        .select('user')
        .where('tenant', '=', tenant)
        .where('user', '=', user)
        .executeTakeFirst()) !== undefined
    )
  },
  async remove({ tenant }) {
    return Number(
      (await database.deleteFrom('user_names').where('tenant', '=', tenant).executeTakeFirst()).numDeletedRows,
    )
  },
  async sweep(before) {
    return Number(
      (await database.deleteFrom('user_names').where('seen_at', '<', before).executeTakeFirst()).numDeletedRows,
    )
  },
})
