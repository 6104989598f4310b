import type { Pool } from 'pg'
import type { AppendAfter } from '../queries/audit.ts'
import { toStoreError } from './pool.ts'

/** The columns of a row beside its node, and their types. */
const COLUMNS = [
  ['seq', 'bigint'],
  ['id', 'text'],
  ['at', 'bigint'],
  ['event', 'text'],
  ['outcome', 'text'],
  ['tenant', 'text'],
  ['user', 'text'],
  ['server', 'text'],
  ['downstream', 'text'],
  ['body', 'text'],
  ['hash', 'text'],
] as const

/**
 * One statement for any number of rows, which looks at the end of the chain as well: a server that has lost its last commits gets
 * nothing appended to what it has not.
 */
const APPEND = `insert into audit_records (node, ${COLUMNS.map(([name]) => `"${name}"`).join(', ')})
  select $1, * from unnest(${COLUMNS.map(([, type], at) => `$${at + 4}::${type}[]`).join(', ')})
  where not exists (select 1 from audit_records where node = $1 and seq > $2::bigint)
    and ($2::bigint = 0 or exists (select 1 from audit_records where node = $1 and seq = $2::bigint and hash = $3))`

export const createAppendAfter =
  (pool: Pool): AppendAfter =>
  async (node, rows, after) => {
    if (rows.length === 0) return true
    try {
      const { rowCount } = await pool.query(APPEND, [
        node,
        after.seq,
        after.hash,
        ...COLUMNS.map(([name]) => rows.map((row) => row[name])),
      ])
      return rowCount === rows.length
    } catch (error) {
      throw toStoreError(error)
    }
  }
