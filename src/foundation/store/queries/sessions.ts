import type { Selectable } from 'kysely'
import { toJson, type Database, type Tables } from '../schema.ts'
import type { Session, SessionStore } from '../records/sessions.ts'

const fromRow = (row: Selectable<Tables['sessions']>): Session => ({
  uid: Number(row.uid),
  tenant: row.tenant,
  user: row.user,
  issuer: row.issuer,
  groups: JSON.parse(row.groups) as string[],
  claims: JSON.parse(row.claims) as Record<string, unknown>,
  signedInAt: Number(row.signed_in_at),
  expiresAt: Number(row.expires_at),
  ...(row.sealed === null ? {} : { sealed: row.sealed }),
})

/** @param node Unix users are those of one machine: a session on another node is another user's */
export const sessionStore = (database: Database, node: string): SessionStore => ({
  async find(uid, now) {
    const row = await database
      .selectFrom('sessions')
      .selectAll()
      .where('node', '=', node)
      .where('uid', '=', uid)
      .where('expires_at', '>', now)
      .executeTakeFirst()
    return row === undefined ? undefined : fromRow(row)
  },
  async put({ signedInAt, expiresAt, groups, claims, sealed = null, ...session }) {
    const row = {
      ...session,
      node,
      groups: toJson(groups),
      claims: toJson(claims),
      signed_in_at: signedInAt,
      expires_at: expiresAt,
      sealed,
    }
    await database
      .insertInto('sessions')
      .values(row)
      .onConflict((conflict) => conflict.columns(['node', 'uid']).doUpdateSet(row))
      .execute()
  },
  async list() {
    return (await database.selectFrom('sessions').selectAll().where('node', '=', node).orderBy('uid').execute()).map(
      fromRow,
    )
  },
  async remove({ uid, tenant, user }) {
    let query = database.deleteFrom('sessions')
    if (uid !== undefined) query = query.where('node', '=', node).where('uid', '=', uid)
    if (tenant !== undefined) query = query.where('tenant', '=', tenant)
    if (user !== undefined) query = query.where('user', '=', user)
    return Number((await query.executeTakeFirst()).numDeletedRows)
  },
})
