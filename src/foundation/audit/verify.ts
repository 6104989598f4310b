import { z } from 'zod'
import type { AuditCheckpoint, AuditRow, AuditStore } from '#foundation/store'
import { EARLIER_GENESIS, emptyChain, hashOf, type ChainName, type Head } from './format/chain.ts'
import { checkpointBytes } from './format/checkpoint.ts'
import { gapText, type Gap } from './continuity.ts'

/** Whether the chain holds, and if not, from which record on and why. */
export interface Verification {
  readonly ok: boolean
  readonly records: number
  readonly checkpoints: number
  readonly head: string
  /** Records that the store has lost, as the node says that wrote them: it had them confirmed, and noticed. */
  readonly losses: readonly RecordedLoss[]
  readonly problem?: { readonly seq: number; readonly why: string }
}

/** Records of a chain that the store has lost. */
export interface RecordedLoss {
  readonly node: string
  readonly from: number
  readonly to: number
  /** When the node noticed it (ms since the epoch). */
  readonly at: number
  /** The number of the record that says so. */
  readonly record: number
}

const lossSchema = z.object({
  detail: z.object({
    records: z.object({
      gone: z.object({ from: z.number(), to: z.number(), after: z.string(), before: z.string() }).nullable(),
      proof: z.string().optional(),
    }),
  }),
})

/** A gap that the daemon has proved to know of. */
type KnownGap = RecordedLoss & Gap

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
  if (row.seq !== head.seq + 1)
    return row.seq === head.seq + 2
      ? `record ${head.seq + 1} is missing`
      : `records ${head.seq + 1} to ${row.seq - 1} are missing`
  if (hashOf(row.body) !== row.hash) return 'its text does not have its hash: it was altered'
  const parsed = parseBody(row.body)
  if (parsed === undefined) return 'its text is no record'
  if (parsed.prev !== head.hash && !(head.seq === 0 && parsed.prev === EARLIER_GENESIS))
    return 'it does not follow the record before it: one of them was altered, removed or moved'
  const differing = columns.find((column) => parsed[column] !== row[column])
  return differing === undefined ? undefined : `its column ${differing} differs from its text: it was altered`
}

const jsonOf = (body: string): unknown => {
  try {
    return JSON.parse(body)
  } catch {
    return undefined
  }
}

const parseBody = (body: string): z.output<typeof bodySchema> | undefined => bodySchema.safeParse(jsonOf(body)).data

/** What is known of a chain, but for the store. */
export interface KnownOfChain {
  readonly chain: ChainName
  readonly verifySignature: VerifySignature
  readonly gaps?: readonly KnownGap[]
}
export type VerifySignature = (kid: string, bytes: Uint8Array, signature: Uint8Array) => boolean

/** A checkpoint before this one is missing: they are numbered without gaps, but where records are known to be lost. */
const isMissed = (last: number | null, { number }: AuditCheckpoint): boolean =>
  last === null ? number !== null && number !== 1 : number !== last + 1

/**
 * Walks the whole chain and holds it against the signed checkpoints: a changed, missing or moved record breaks it,
 * and a tail that was cut off is missed by the checkpoint that had covered it.
 */
export const verifyChain = async (
  rows: AsyncIterable<AuditRow> | Iterable<AuditRow>,
  checkpoints: readonly AuditCheckpoint[],
  { chain, verifySignature, gaps = [] }: KnownOfChain,
): Promise<Verification> => {
  let head = emptyChain(chain)
  const losses: RecordedLoss[] = []
  const pending = [...checkpoints].sort((a, b) => a.seq - b.seq)
  const broken = (seq: number, why: string): Verification => ({
    ok: false,
    records: head.seq,
    checkpoints: checkpoints.length,
    head: head.hash,
    losses,
    problem: { seq, why },
  })
  for (const { kid, signature, ...unsigned } of pending) {
    if (!verifySignature(kid, checkpointBytes(chain, unsigned), Buffer.from(signature, 'base64url')))
      return broken(unsigned.seq, 'the signature of its checkpoint is wrong')
  }
  /** The number of the checkpoint before; undefined where it may have been lost. */
  let last: number | null | undefined = null
  for await (const row of rows) {
    const gap = gaps.find(({ from, to, after }) => from === head.seq + 1 && to === row.seq - 1 && after === head.hash)
    if (gap !== undefined) {
      const { from, to, at, node, record } = gap
      losses.push({ node, from, to, at, record })
      head = { seq: to, hash: gap.before }
      // What a checkpoint of a lost record signed cannot be compared any more.
      while (pending[0] !== undefined && pending[0].seq <= to) pending.shift()
      last = undefined
    }
    const fault = faultOf(row, head)
    if (fault !== undefined) return broken(row.seq, fault)
    head = { seq: row.seq, hash: row.hash }
    while (pending[0]?.seq === head.seq) {
      if (pending[0].hash !== head.hash) return broken(head.seq, 'it is not the record that its checkpoint signed')
      if (last !== undefined && isMissed(last, pending[0])) return broken(head.seq, 'a checkpoint before it is missing')
      last = pending[0].number
      pending.shift()
    }
  }
  const [missed] = pending
  if (missed !== undefined)
    return broken(
      missed.seq,
      `the chain ends at record ${head.seq}, and a checkpoint signed record ${missed.seq}: the tail was cut off`,
    )
  return { ok: true, records: head.seq, checkpoints: checkpoints.length, head: head.hash, losses }
}

/**
 * The gaps of a chain of which the daemon has written down that the store had lost the records. Who can write the store can write such a record as
 * well, so that only a proof counts.
 */
const knownGaps = async (
  store: AuditStore,
  node: string,
  prove: (text: string) => string,
): Promise<readonly KnownGap[]> => {
  const gaps: KnownGap[] = []
  for (const row of await store.query({ node, event: 'store.lost' }, { limit: PAGE })) {
    const parsed = lossSchema.safeParse(jsonOf(row.body)).data?.detail.records
    if (parsed === undefined || parsed.gone === null || parsed.proof !== prove(gapText(node, parsed.gone))) continue
    gaps.push({ node, ...parsed.gone, at: row.at, record: row.seq })
  }
  return gaps
}

/**
 * Verifies the chain of every node that has one: the own first, and the first that is broken.
 * @param known.prove what proves that this installation wrote a text
 */
export const verifyChains = async (
  store: AuditStore,
  {
    installation,
    verifySignature,
    prove,
  }: {
    readonly installation: string
    readonly verifySignature: VerifySignature
    readonly prove: (text: string) => string
  },
): Promise<Verification & { readonly nodes: readonly string[] }> => {
  const nodes = [store.node, ...(await store.chains()).filter((node) => node !== store.node)]
  const each: Verification[] = []
  for (const node of nodes) {
    const verification = await verifyChain(allRecords(store, node), await store.checkpoints(node), {
      chain: { installation, node },
      verifySignature,
      gaps: await knownGaps(store, node, prove),
    })
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
  return {
    ok: true,
    nodes,
    records: sum('records'),
    checkpoints: sum('checkpoints'),
    head: each[0]!.head,
    losses: each.flatMap(({ losses }) => losses),
  }
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
