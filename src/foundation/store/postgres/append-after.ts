import type { Pool } from 'pg'
import type { AppendAfter } from '../queries/audit.ts'
import { toStoreError } from './pool.ts'

/** The columns of a row other than its node, and their types. */
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
 * One statement for any number of rows, which looks at the end of the chain as well, by the index: a server that has lost its last commits gets
 * nothing appended to what it has not.
 */
const APPEND = `with head as materialized (
    select seq, hash from audit_records where node = $1 order by node desc, seq desc limit 1)
  insert into audit_records (node, ${COLUMNS.map(([name]) => `"${name}"`).join(', ')})
  select $1, r.* from json_to_recordset($4::json) as r(${COLUMNS.map(([name, type]) => `"${name}" ${type}`).join(', ')})
  where case when $2::bigint = 0 then not exists (select 1 from head)
    else exists (select 1 from head where head.seq = $2::bigint and head.hash = $3) end`

export const createAppendAfter =
  (pool: Pool): AppendAfter =>
  async (node, rows, after) => {
    if (rows.length === 0) return true
    try {
      const { rowCount } = await pool.query({
        // Prepared once for each connection: it is on the way of every answer.
        name: 'audit-append',
        text: APPEND,
        values: [node, after.seq, after.hash, JSON.stringify(rows)],
      })
      return rowCount === rows.length
    } catch (error) {
      throw toStoreError(error)
    }
  }
