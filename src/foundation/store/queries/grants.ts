import type { Selectable } from 'kysely'
import { refuse } from '#errors'
import type { Database, Tables } from '../schema.ts'
import { toJson } from '../schema.ts'
import type { Grant, GrantFilter, GrantOwner, GrantStatus, GrantStore } from '../records/grants.ts'

const fromRow = (row: Selectable<Tables['grants']>): Grant => ({
  id: row.id,
  tenant: row.tenant,
  user: row.user,
  server: row.server,
  downstream: row.downstream,
  provider: row.provider,
  clientGeneration: row.client_generation,
  scopes: JSON.parse(row.scopes) as string[],
  status: row.status as GrantStatus,
  problem: row.problem,
  sealed: row.sealed,
  version: Number(row.version),
  createdAt: Number(row.created_at),
  updatedAt: Number(row.updated_at),
  ...(row.refresh_owner === null ? {} : { refreshing: { owner: row.refresh_owner, until: Number(row.refresh_until) } }),
})

const toRow = (grant: Omit<Grant, 'version'>) => ({
  id: grant.id,
  tenant: grant.tenant,
  user: grant.user,
  server: grant.server,
  downstream: grant.downstream,
  provider: grant.provider,
  client_generation: grant.clientGeneration,
  scopes: toJson(grant.scopes),
  status: grant.status,
  problem: grant.problem,
  sealed: grant.sealed,
  created_at: grant.createdAt,
  updated_at: grant.updatedAt,
  refresh_owner: grant.refreshing?.owner ?? null,
  refresh_until: grant.refreshing?.until ?? null,
})

const OWNER = ['tenant', 'user', 'server', 'downstream'] as const

/** Adds the conditions of a filter to any query that can have them. */
const matching = <Query extends { where(column: keyof GrantFilter, operator: '=', value: string): Query }>(
  query: Query,
  filter: GrantFilter,
): Query => {
  let narrowed = query
  for (const column of [...OWNER, 'provider', 'id'] as const) {
    const value = filter[column]
    if (value !== undefined) narrowed = narrowed.where(column, '=', value)
  }
  return narrowed
}

type Filterable = { where(column: string, operator: '=', value: string): Filterable }
const where = <Query>(query: Query, filter: GrantFilter): Query => matching(query as Filterable, filter) as Query

export const grantStore = (database: Database): GrantStore => ({
  async find(owner: GrantOwner) {
    const row = await where(database.selectFrom('grants').selectAll(), {
      tenant: owner.tenant,
      user: owner.user,
      server: owner.server,
      downstream: owner.downstream,
    }).executeTakeFirst()
    return row === undefined ? undefined : fromRow(row)
  },
  async get(id) {
    const row = await database.selectFrom('grants').selectAll().where('id', '=', id).executeTakeFirst()
    return row === undefined ? undefined : fromRow(row)
  },
  async list(filter, page) {
    let query = where(database.selectFrom('grants').selectAll(), filter).orderBy('id')
    if (page?.after !== undefined) query = query.where('id', '>', page.after)
    if (page !== undefined) query = query.limit(page.limit)
    return (await query.execute()).map(fromRow)
  },
  async put(grant) {
    const row = toRow(grant)
    const { version } = await database
      .insertInto('grants')
      .values({ ...row, version: 1 })
      .onConflict((conflict) =>
        conflict.columns([...OWNER]).doUpdateSet((eb) => ({ ...row, version: eb('grants.version', '+', 1) })),
      )
      .returning('version')
      .executeTakeFirstOrThrow()
    return { ...grant, version: Number(version) }
  },
  async update(grant) {
    const { id: _, ...row } = toRow(grant)
    const { numUpdatedRows } = await database
      .updateTable('grants')
      .set({ ...row, version: grant.version + 1 })
      .where('id', '=', grant.id)
      .where('version', '=', grant.version)
      .executeTakeFirst()
    if (numUpdatedRows === 0n) throw refuse('conflict', { what: 'grant' })
    return { ...grant, version: grant.version + 1 }
  },
  async remove(filter) {
    return (await where(database.deleteFrom('grants').returningAll(), filter).execute()).map(fromRow)
  },
})

export { where as whereOwner }
