import { toJson, type Database } from '../schema.ts'
import type { LossStore, StoreLoss } from '../records/losses.ts'

/** Losses that are read at one time. */
const MAX_LOSSES = 1000

/** The last time that a date can be (ms since the epoch; ECMA-262 section 21.4.1.1). */
const LAST_TIME_MS = 8_640_000_000_000_000
const ALTERED = { problem: 'the row of this loss was altered in the store and cannot be read' }

/** Who can write the store can write anything here. */
const detailIn = (text: string): StoreLoss['detail'] => {
  try {
    const detail: unknown = JSON.parse(text)
    const isOurs = typeof detail === 'object' && detail !== null && 'problem' in detail
    return isOurs && typeof detail.problem === 'string' ? { ...detail } : ALTERED
  } catch {
    return ALTERED
  }
}

const lossIn = (row: { id: string; node: string; at: number; detail: string }): StoreLoss => {
  const at = Number(row.at)
  return Math.abs(at) <= LAST_TIME_MS
    ? { ...row, at, detail: detailIn(row.detail) }
    : { ...row, at: 0, detail: ALTERED }
}

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
      .orderBy('id')
      .limit(MAX_LOSSES)
      .execute()
    return rows.map(lossIn)
  },
  async acknowledge(ids, by, at) {
    if (ids.length === 0) return 0
    const { numUpdatedRows } = await database
      .updateTable('store_losses')
      .set({ acknowledged_at: at, acknowledged_by: by })
      .where('acknowledged_at', 'is', null)
      .where('id', 'in', [...ids])
      .executeTakeFirst()
    return Number(numUpdatedRows)
  },
})
