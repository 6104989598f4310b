import { z } from 'zod'
import type { AuditCheckpoint, AuditRow, AuditStore } from '../store/records/audit.ts'
import { checkpointBytes, emptyChain, hashOf, type Head } from './chain.ts'

/** Whether the chain holds, and if not, from which record on and why. */
export interface Verification {
  readonly ok: boolean
  readonly records: number
  readonly checkpoints: number
  readonly head: string
  readonly problem?: { readonly seq: number; readonly why: string }
}

const bodySchema = z.looseObject({
  seq: z.number(),
  prev: z.string(),
  id: z.string(),
  at: z.number(),
  event: z.string(),
  outcome: z.string(),
  tenant: z.string().nullable(),
  user: z.string().nullable(),
  server: z.string().nullable(),
  downstream: z.string().nullable(),
})

const columns = ['seq', 'id', 'at', 'event', 'outcome', 'tenant', 'user', 'server', 'downstream'] as const

/** Why this row is not the one that follows; undefined if it is. */
const faultOf = (row: AuditRow, head: Head): string | undefined => {
  if (row.seq !== head.seq + 1) return `record ${head.seq + 1} is missing`
  if (hashOf(row.body) !== row.hash) return 'its text does not have its hash: it was altered'
  const parsed = parseBody(row.body)
  if (parsed === undefined) return 'its text is no record'
  if (parsed.prev !== head.hash)
    return 'it does not follow the record before it: one of them was altered, removed or moved'
  const differing = columns.find((column) => parsed[column] !== row[column])
  return differing === undefined ? undefined : `its column ${differing} differs from its text: it was altered`
}

const parseBody = (body: string): z.output<typeof bodySchema> | undefined => {
  try {
    return bodySchema.safeParse(JSON.parse(body)).data
  } catch {
    return undefined
  }
}

/**
 * Walks the whole chain and holds it against the signed checkpoints: a changed, missing or moved record breaks it,
 * and a tail that was cut off is missed by the checkpoint that had covered it.
 */
export const verifyChain = async (
  rows: AsyncIterable<AuditRow> | Iterable<AuditRow>,
  checkpoints: readonly AuditCheckpoint[],
  verifySignature: (kid: string, bytes: Uint8Array, signature: Uint8Array) => boolean,
): Promise<Verification> => {
  let head = emptyChain
  const pending = [...checkpoints].sort((a, b) => a.seq - b.seq)
  const broken = (seq: number, why: string): Verification => ({
    ok: false,
    records: head.seq,
    checkpoints: checkpoints.length,
    head: head.hash,
    problem: { seq, why },
  })
  for (const { seq, hash, at, kid, signature } of pending) {
    if (!verifySignature(kid, checkpointBytes({ seq, hash, at }), Buffer.from(signature, 'base64url')))
      return broken(seq, 'the signature of its checkpoint is wrong')
  }
  for await (const row of rows) {
    const fault = faultOf(row, head)
    if (fault !== undefined) return broken(row.seq, fault)
    head = { seq: row.seq, hash: row.hash }
    while (pending[0]?.seq === head.seq) {
      if (pending[0].hash !== head.hash) return broken(head.seq, 'it is not the record that its checkpoint signed')
      pending.shift()
    }
  }
  const [missed] = pending
  if (missed !== undefined)
    return broken(
      missed.seq,
      `the chain ends at record ${head.seq}, and a checkpoint signed record ${missed.seq}: the tail was cut off`,
    )
  return { ok: true, records: head.seq, checkpoints: checkpoints.length, head: head.hash }
}

/** Verifies the chain of every node that has one: the own first, and the first that is broken. */
export const verifyChains = async (
  store: AuditStore,
  verifySignature: Parameters<typeof verifyChain>[2],
): Promise<Verification & { readonly nodes: readonly string[] }> => {
  const nodes = [store.node, ...(await store.chains()).filter((node) => node !== store.node)]
  const each: Verification[] = []
  for (const node of nodes) {
    const verification = await verifyChain(allRecords(store, node), await store.checkpoints(node), verifySignature)
    if (!verification.ok)
      return {
        ...verification,
        nodes,
        problem: { seq: verification.problem!.seq, why: `of the node ${node}: ${verification.problem!.why}` },
      }
    each.push(verification)
  }
  const sum = (field: 'records' | 'checkpoints'): number =>
    each.reduce((total, verification) => total + verification[field], 0)
  return { ok: true, nodes, records: sum('records'), checkpoints: sum('checkpoints'), head: each[0]!.head }
}

const PAGE = 1000

/** Every record of a store, page by page. */
export async function* allRecords(store: AuditStore, node?: string): AsyncIterable<AuditRow> {
  for (let afterSeq = 0; ;) {
    const page = await store.query({ afterSeq, ...(node === undefined ? {} : { node }) }, { limit: PAGE })
    yield* page
    const last = page.at(-1)
    if (last === undefined) return
    afterSeq = last.seq
  }
}
