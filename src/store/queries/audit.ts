import { refuse } from '../../errors.ts'
import type { Batch, Database } from '../schema.ts'
import type { AuditFilter, AuditRow, AuditStore } from '../store.ts'

const COLUMNS = ['seq', 'id', 'at', 'event', 'outcome', 'tenant', 'user', 'server', 'downstream', 'body', 'hash'] as const

/** Names of the filter's fields that are columns compared for equality. */
const EQUAL = ['id', 'event', 'outcome', 'tenant', 'user', 'server', 'downstream'] as const

/** @param reading where the log is searched: it grows for ever, and nobody who appends may wait for a search through it */
export const auditStore = (database: Database, reading: Database, batch: Batch, isConstraint: (error: unknown) => boolean): AuditStore => {
  // Compiled once: the values stand for the columns, each row brings its own.
  const insert = database.insertInto('audit_records')
    .values({ seq: 0, id: '', at: 0, event: '', outcome: '', tenant: '', user: '', server: '', downstream: '', body: '', hash: '' }).compile()
  const toParameters = (row: AuditRow): unknown[] => COLUMNS.map((column) => row[column])

  return {
    async append(rows) {
      try { await batch(insert, rows.map(toParameters)) } catch (error) {
        throw isConstraint(error) ? refuse('conflict', { what: 'audit log' }, error) : error
      }
    },
    async head() {
      const row = await database.selectFrom('audit_records').select(['seq', 'hash']).orderBy('seq', 'desc').limit(1).executeTakeFirst()
      return row === undefined ? undefined : { seq: Number(row.seq), hash: row.hash }
    },
    async query(filter: AuditFilter, { limit, last }) {
      let query = reading.selectFrom('audit_records').select([...COLUMNS]).limit(limit).orderBy('seq', last === true ? 'desc' : 'asc')
      for (const column of EQUAL) {
        const value = filter[column]
        if (value !== undefined) query = query.where(column, '=', value)
      }
      if (filter.since !== undefined) query = query.where('at', '>=', filter.since)
      if (filter.until !== undefined) query = query.where('at', '<=', filter.until)
      if (filter.afterSeq !== undefined) query = query.where('seq', '>', filter.afterSeq)
      const rows = (await query.execute()).map((row) => ({ ...row, seq: Number(row.seq), at: Number(row.at) }))
      return last === true ? rows.reverse() : rows
    },
    async addCheckpoint(checkpoint) {
      await database.insertInto('audit_checkpoints').values(checkpoint).onConflict((conflict) => conflict.column('seq').doNothing()).execute()
    },
    async checkpoints() {
      const rows = await database.selectFrom('audit_checkpoints').selectAll().orderBy('seq').execute()
      return rows.map((row) => ({ ...row, seq: Number(row.seq), at: Number(row.at) }))
    },
  }
}
