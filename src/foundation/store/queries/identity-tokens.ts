import type { Database } from '../schema.ts'
import type { IdentityTokenStore } from '../records/identity-tokens.ts'

export const identityTokenStore = (database: Database): IdentityTokenStore => ({
  async find({ tenant, user }, now) {
    const row = await database
      .selectFrom('identity_tokens')
      .selectAll()
      .where('tenant', '=', tenant)
      .where('user', '=', user)
      .where('expires_at', '>', now)
      .executeTakeFirst()
    return row === undefined
      ? undefined
      : {
          tenant: row.tenant,
          user: row.user,
          issuer: row.issuer,
          sealed: row.sealed,
          expiresAt: Number(row.expires_at),
        }
  },
  async put({ expiresAt, ...token }) {
    const row = { ...token, expires_at: expiresAt }
    await database
      .insertInto('identity_tokens')
      .values(row)
      .onConflict((conflict) => conflict.columns(['tenant', 'user']).doUpdateSet(row))
      .execute()
  },
  async remove({ tenant, user, issuer }) {
    let query = database.deleteFrom('identity_tokens')
    if (tenant !== undefined) query = query.where('tenant', '=', tenant)
    if (user !== undefined) query = query.where('user', '=', user)
    if (issuer !== undefined) query = query.where('issuer', '=', issuer)
    return Number((await query.executeTakeFirst()).numDeletedRows)
  },
  async sweep(now) {
    return Number(
      (await database.deleteFrom('identity_tokens').where('expires_at', '<=', now).executeTakeFirst()).numDeletedRows,
    )
  },
})
