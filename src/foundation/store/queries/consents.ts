import type { Selectable } from 'kysely'
import { toJson, type Database, type Tables } from '../schema.ts'
import type { Consent, ConsentStore } from '../records/consents.ts'
import { whereOwner } from './grants.ts'

const fromRow = (row: Selectable<Tables['consents']>): Consent => ({
  tenant: row.tenant,
  user: row.user,
  server: row.server,
  downstream: row.downstream,
  asked: JSON.parse(row.asked) as string[],
  granted: JSON.parse(row.granted) as string[],
  at: Number(row.at),
  until: Number(row.until),
  ...(row.proof === null ? {} : { proof: row.proof }),
})

export const consentStore = (database: Database): ConsentStore => ({
  async find({ tenant, user, server, downstream }) {
    const row = await whereOwner(database.selectFrom('consents').selectAll(), {
      tenant,
      user,
      server,
      downstream,
    }).executeTakeFirst()
    return row === undefined ? undefined : fromRow(row)
  },
  async put(consent) {
    const { asked, granted, proof = null, ...rest } = consent
    const row = { ...rest, asked: toJson(asked), granted: toJson(granted), proof }
    await database
      .insertInto('consents')
      .values(row)
      .onConflict((conflict) => conflict.columns(['tenant', 'user', 'server', 'downstream']).doUpdateSet(row))
      .execute()
  },
  async list(filter) {
    return (await whereOwner(database.selectFrom('consents').selectAll(), filter).execute()).map(fromRow)
  },
  async remove(filter) {
    return Number((await whereOwner(database.deleteFrom('consents'), filter).executeTakeFirst()).numDeletedRows)
  },
})
