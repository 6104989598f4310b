import type { Selectable } from 'kysely'
import type { Atomically, Database, Tables } from '../schema.ts'
import type { SecretStage, SecretStore, StoredSecret } from '../store.ts'

const fromRow = (row: Selectable<Tables['secrets']>): StoredSecret => ({
  tenant: row.tenant, name: row.name, version: Number(row.version), stage: row.stage as SecretStage | null, sealed: row.sealed, createdAt: Number(row.created_at),
})

export const secretStore = (database: Database, atomically: Atomically): SecretStore => ({
  async find(tenant, name, stage) {
    const row = await database.selectFrom('secrets').selectAll().where('tenant', '=', tenant).where('name', '=', name).where('stage', '=', stage).executeTakeFirst()
    return row === undefined ? undefined : fromRow(row)
  },
  async list(tenant) {
    const query = database.selectFrom('secrets').selectAll().orderBy('tenant').orderBy('name').orderBy('version')
    return (await (tenant === undefined ? query : query.where('tenant', '=', tenant)).execute()).map(fromRow)
  },
  async nextVersion(tenant, name) {
    const row = await database.selectFrom('secrets').select(({ fn }) => fn.max('version').as('last')).where('tenant', '=', tenant).where('name', '=', name).executeTakeFirst()
    return Number(row?.last ?? 0) + 1
  },
  async putCurrent({ tenant, name, version, sealed, createdAt }) {
    const ofSecret = () => database.updateTable('secrets').where('tenant', '=', tenant).where('name', '=', name)
    await atomically([
      ofSecret().where('stage', '=', 'previous').set({ stage: null }).compile(),
      ofSecret().where('stage', '=', 'current').set({ stage: 'previous' }).compile(),
      database.insertInto('secrets').values({ tenant, name, version, stage: 'current', sealed, created_at: createdAt }).compile(),
    ])
  },
  async remove({ tenant, name }) {
    const query = database.deleteFrom('secrets').where('tenant', '=', tenant)
    return Number((await (name === undefined ? query : query.where('name', '=', name)).executeTakeFirst()).numDeletedRows)
  },
})
