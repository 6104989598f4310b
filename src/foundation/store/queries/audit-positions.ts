import type { Database } from '../schema.ts'
import type { AuditPositionStore } from '../records/audit-positions.ts'

export const auditPositionStore = (database: Database, node: string): AuditPositionStore => ({
  async find(sink) {
    const row = await database
      .selectFrom('audit_positions')
      .select(['seq', 'hash', 'mark', 'proof'])
      .where('node', '=', node)
      .where('sink', '=', sink)
      .executeTakeFirst()
    return row === undefined ? undefined : { ...row, seq: Number(row.seq) }
  },
  async put(sink, position) {
    await database
      .insertInto('audit_positions')
      .values({ ...position, node, sink })
      .onConflict((conflict) => conflict.columns(['node', 'sink']).doUpdateSet({ ...position }))
      .execute()
  },
})
