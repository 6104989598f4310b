import { toJson, type Database } from '../schema.ts'
import type { LossStore } from '../records/losses.ts'

export const lossStore = (database: Database): LossStore => ({
  async add({ detail, ...loss }) {
    await database
      .insertInto('store_losses')
      .values({ ...loss, detail: toJson(detail), acknowledged_at: null, acknowledged_by: null })
      .onConflict((conflict) => conflict.column('id').doNothing())
      .execute()
  },
  async open() {
    const rows = await database
      .selectFrom('store_losses')
      .select(['id', 'node', 'at', 'detail'])
      .where('acknowledged_at', 'is', null)
      .orderBy('at')
      .execute()
    return rows.map((row) => ({
      ...row,
      at: Number(row.at),
      detail: JSON.parse(row.detail) as Record<string, unknown>,
    }))
  },
  async acknowledge(by, at) {
    const { numUpdatedRows } = await database
      .updateTable('store_losses')
      .set({ acknowledged_at: at, acknowledged_by: by })
      .where('acknowledged_at', 'is', null)
      .executeTakeFirst()
    return Number(numUpdatedRows)
  },
})
