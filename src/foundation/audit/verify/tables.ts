import { z } from 'zod'
import type { AuditRow, AuditStore } from '#foundation/store'
import { checkpointsOf, recordPages } from '../pages.ts'
import type { ChainLine } from './walk.ts'

const bodySchema = z.looseObject({
  seq: z.number(),
  id: z.string(),
  at: z.number(),
  event: z.string(),
  outcome: z.string(),
  tenant: z.string().nullable(),
  user: z.string().nullable(),
  server: z.string().nullable(),
  downstream: z.string().nullable(),
})
const COLUMNS = ['seq', 'id', 'at', 'event', 'outcome', 'tenant', 'user', 'server', 'downstream'] as const

/** Searches go by columns, and proofs by the text: where the two differ, a search would show what never was. */
const differingColumn = (row: AuditRow): string | undefined => {
  let text: unknown
  try {
    text = JSON.parse(row.body)
  } catch {
    return undefined
  }
  const parsed = bodySchema.safeParse(text).data
  return parsed === undefined ? undefined : COLUMNS.find((column) => parsed[column] !== row[column])
}

/** A chain that is kept in tables, as the lines of a segment: each checkpoint behind its record. */
export async function* tableLines(store: AuditStore, node: string): AsyncIterable<ChainLine> {
  const checkpoints = checkpointsOf(store, node)
  let { value: next } = await checkpoints.next()
  for await (const page of recordPages(store, { node }))
    for (const row of page) {
      // One of a record that is not there stands where that would be.
      for (; next !== undefined && next.seq < row.seq; { value: next } = await checkpoints.next())
        yield { kind: 'checkpoint', checkpoint: next }
      const differing = differingColumn(row)
      yield differing === undefined
        ? { kind: 'record', hash: row.hash, body: row.body }
        : { kind: 'fault', seq: row.seq, why: `its column ${differing} differs from its text: it was altered` }
      for (; next?.seq === row.seq; { value: next } = await checkpoints.next())
        yield { kind: 'checkpoint', checkpoint: next }
    }
  for (; next !== undefined; { value: next } = await checkpoints.next()) yield { kind: 'checkpoint', checkpoint: next }
}
