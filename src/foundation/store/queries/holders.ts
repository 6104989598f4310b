import type { Database } from '../schema.ts'
import type { SecretHolderStore } from '../records/holders.ts'

export const secretHolderStore = (database: Database): SecretHolderStore => ({
  async put(holder) {
    await database
      .insertInto('secret_holders')
      .values(holder)
      .onConflict((conflict) =>
        conflict
          .columns(['tenant', 'backend', 'secret', 'holder'])
          .doUpdateSet({ version: holder.version, until: holder.until }),
      )
      .execute()
  },
  async list({ tenant, backend, secret }, now) {
    const rows = await database
      .selectFrom('secret_holders')
      .selectAll()
      .where('tenant', '=', tenant)
      .where('backend', '=', backend)
      .where('secret', '=', secret)
      .where('until', '>', now)
      .orderBy('server')
      .orderBy('holder')
      .execute()
    return rows.map((row) => ({ ...row, until: Number(row.until) }))
  },
  async forget(holder) {
    await database.deleteFrom('secret_holders').where('holder', '=', holder).execute()
  },
  async sweep(now) {
    return Number(
      (await database.deleteFrom('secret_holders').where('until', '<=', now).executeTakeFirst()).numDeletedRows,
    )
  },
})
