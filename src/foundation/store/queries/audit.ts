import { sql } from 'kysely'
import { refuse } from '#errors'
import type { Atomically, Batch, Database, Tables } from '../schema.ts'
import type { AuditCheckpoint, AuditFilter, AuditRow, AuditStore } from '../records/audit.ts'

export const COLUMNS = [
  'node',
  'seq',
  'id',
  'at',
  'event',
  'outcome',
  'tenant',
  'user',
  'server',
  'downstream',
  'body',
  'hash',
] as const

export const CHECKPOINT_COLUMNS = ['node', 'number', 'seq', 'hash', 'at', 'kid', 'signature'] as const

/** Names of the filter's fields that are columns compared for equality. */
const EQUAL = ['id', 'event', 'outcome', 'tenant', 'user', 'server'] as const

/** A record of a credential for several downstreams names their ids with spaces between; an id holds none. */
const namesDownstream = (id: string) =>
  sql<boolean>`(downstream = ${id} or ' ' || downstream || ' ' like ${`% ${id.replace(/[\\%_]/g, '\\$&')} %`} escape '\\')`

/** Appends rows to the chain of a node only where that ends with `after`. @returns whether it did */
export type AppendAfter = (
  node: string,
  rows: readonly AuditRow[],
  after: { readonly seq: number; readonly hash: string },
) => Promise<boolean>

/** Searches the audit log. @param own the node whose chain is read where the filter names none */
const search = async (
  reading: Database,
  own: string,
  filter: AuditFilter,
  { limit, last }: Parameters<AuditStore['query']>[1],
) => {
  const order = last === true ? 'desc' : 'asc'
  let query = reading
    .selectFrom('audit_records')
    .select([...COLUMNS])
    .limit(limit)
  // One chain is in the order of its numbers; records of several, in that of their times.
  query =
    filter.node === '*'
      ? query.orderBy('at', order).orderBy('node', order).orderBy('seq', order)
      : query.where('node', '=', filter.node ?? own).orderBy('seq', order)
  for (const column of EQUAL) {
    const value = filter[column]
    if (value !== undefined) query = query.where(column, '=', value)
  }
  if (filter.otherThan !== undefined && filter.otherThan.length > 0)
    query = query.where('event', 'not in', [...filter.otherThan])
  if (filter.mentions !== undefined) {
    const pattern = `%${JSON.stringify(filter.mentions).slice(1, -1).replace(/[%_!]/g, '!$&')}%`
    query = query.where(sql<boolean>`lower(body) like lower(${pattern}) escape '!'`)
  }
  if (filter.downstream !== undefined) query = query.where(namesDownstream(filter.downstream))
  if (filter.since !== undefined) query = query.where('at', '>=', filter.since)
  if (filter.until !== undefined) query = query.where('at', '<=', filter.until)
  if (filter.afterSeq !== undefined) query = query.where('seq', '>', filter.afterSeq)
  const rows = (await query.execute()).map(({ node: of, ...row }) => ({
    ...(filter.node === undefined ? {} : { node: of }),
    ...row,
    seq: Number(row.seq),
    at: Number(row.at),
  }))
  return last === true ? rows.reverse() : rows
}

/** By one step in the index for each node: `distinct` would read every row. */
const nodesIn = async (database: Database, table: 'audit_records' | 'audit_checkpoints'): Promise<string[]> => {
  const { rows } = await sql<{ node: string }>`with recursive nodes (node) as (
      select min(node) from ${sql.table(table)}
      union all
      select (select min(node) from ${sql.table(table)} as other where other.node > nodes.node)
      from nodes where nodes.node is not null)
    select node from nodes where node is not null order by node`.execute(database)
  return rows.map(({ node: each }) => each)
}

const toCheckpoint = ({ node: _, ...row }: Tables['audit_checkpoints']): AuditCheckpoint => ({
  ...row,
  number: row.number === null ? null : Number(row.number),
  seq: Number(row.seq),
  at: Number(row.at),
})

/** By the numbers in the primary key, so that no page costs more than the first. */
const removeOldest = async (database: Database, node: string, count: number): Promise<number> => {
  const last = await database
    .selectFrom('audit_records')
    .select('seq')
    .where('node', '=', node)
    .orderBy('seq')
    .offset(count - 1)
    .limit(1)
    .executeTakeFirst()
  let rows = database.deleteFrom('audit_records').where('node', '=', node)
  if (last !== undefined) rows = rows.where('seq', '<=', last.seq)
  const { numDeletedRows } = await rows.executeTakeFirst()
  if (last === undefined) await database.deleteFrom('audit_checkpoints').where('node', '=', node).execute()
  return Number(numDeletedRows)
}

/**
 * @param options.appendAfter of a database that several processes write. @param options.reading where the log is
 * searched: it grows for ever, and no append may wait for a search through it
 */
export const auditStore = (options: {
  database: Database
  reading: Database
  atomically: Atomically
  batch: Batch
  isConstraint: (error: unknown) => boolean
  appendAfter?: AppendAfter | undefined
  node: string
}): AuditStore => {
  const { database, reading, atomically, batch, isConstraint, appendAfter, node } = options
  const checkpointsOf = (of: string) => database.selectFrom('audit_checkpoints').selectAll().where('node', '=', of)
  const lastCheckpointOf = async (of: string): Promise<AuditCheckpoint | undefined> => {
    const row = await checkpointsOf(of).orderBy('seq', 'desc').limit(1).executeTakeFirst()
    return row === undefined ? undefined : toCheckpoint(row)
  }
  return {
    joinsWrites: appendAfter === undefined,
    async append(rows, after, writes = []) {
      try {
        if (appendAfter !== undefined && after !== undefined) {
          if (!(await appendAfter(node, rows, after))) throw refuse('conflict', { what: 'audit log' })
          return
        }
        await batch(
          'audit_records',
          COLUMNS,
          rows.map((row) => COLUMNS.map((column) => (column === 'node' ? node : row[column]))),
          writes,
        )
      } catch (error) {
        throw isConstraint(error) ? refuse('conflict', { what: 'audit log' }, error) : error
      }
    },
    async apply(writes) {
      await Promise.all(writes.map(({ statements }) => atomically(statements)))
    },
    async head() {
      const row = await database
        .selectFrom('audit_records')
        .select(['seq', 'hash'])
        .where('node', '=', node)
        .orderBy('seq', 'desc')
        .limit(1)
        .executeTakeFirst()
      return row === undefined ? undefined : { seq: Number(row.seq), hash: row.hash }
    },
    node,
    chains: () => nodesIn(database, 'audit_records'),
    query: (filter, page) => search(reading, node, filter, page),
    async addCheckpoint(checkpoint) {
      await database
        .insertInto('audit_checkpoints')
        .values({ ...checkpoint, node })
        .onConflict((conflict) => conflict.columns(['node', 'seq']).doNothing())
        .execute()
    },
    lastCheckpoint: () => lastCheckpointOf(node),
    async lastCheckpoints() {
      const found = []
      for (const of of await nodesIn(database, 'audit_checkpoints')) {
        const last = await lastCheckpointOf(of)
        if (last !== undefined) found.push({ node: of, ...last })
      }
      return found
    },
    removeOldest: (count) => removeOldest(database, node, count),
    async checkpoints(of = node, page) {
      const all = checkpointsOf(of).orderBy('seq')
      const query = page === undefined ? all : all.where('seq', '>', page.afterSeq).limit(page.limit)
      return (await query.execute()).map(toCheckpoint)
    },
  }
}
