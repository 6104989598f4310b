import { refuse } from '#errors'
import type { AuditStore, SegmentFile } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import type { ChainEvents, ChainWriter } from '../chains/chain-writer.ts'
import type { Sign } from '../format/signature.ts'
import type { Watch } from '../sinks/watched-sink.ts'
import { adoptRecords, emptyTables } from './adopt.ts'
import { IndexConnection } from './index/index-connection.ts'
import type { WriterThread } from './protocol.ts'
import { prune, type Pruned, type PruneOptions } from './retention.ts'
import { SegmentChain } from './segment-chain.ts'
import { WriterConnection, type Started } from './writer-connection.ts'

/**
 * How often is looked (ms) whether the index is far behind the segments, and how far (bytes) is: 50,000 records, half a
 * second.
 */
const FEED_MS = 2000
const FEED_BYTES = 64 * 1_048_576

export interface SegmentOptions extends WriterThread {
  /** The tables of the database: what records allow is made there, and earlier records are taken out of them. */
  readonly tables: AuditStore
  readonly sign: Sign
  readonly logger: Logger
}

/** The audit log of a node, in segment files. */
export interface SegmentAudit {
  readonly store: AuditStore
  /** Goes on with the chain, for `DurableAuditLog`. */
  readonly openChain: (watch: Watch, events: ChainEvents, needsRows: boolean) => Promise<ChainWriter>
  /** What the start has found that is not as it was written, each as a sentence. */
  readonly problems: readonly string[]
  /** Has the segment sealed with the next commit of the log, however small it is. */
  sealSoon(): void
  /** Removes the records of segments whose time is over, see `prune`. */
  prune(options: PruneOptions): Promise<Pruned>
  close(): Promise<void>
}

/** Where an index is far behind the segments, it follows by itself, so that a search finds it near. */
const followSegments = (connection: WriterConnection, index: IndexConnection): (() => void) => {
  let fed = connection.state.durable
  let busy = false
  const timer = setInterval(() => {
    const { durable } = connection.state
    if (busy || (durable.number === fed.number && durable.bytes - fed.bytes < FEED_BYTES)) return
    busy = true
    fed = durable
    index
      .ask({ kind: 'feed', durable })
      .catch(() => undefined)
      .finally(() => {
        busy = false
      })
  }, FEED_MS)
  timer.unref()
  return () => {
    clearInterval(timer)
  }
}

const problemsOf = ({ recovery: { problems, torn } }: Started): string[] =>
  torn === undefined
    ? [...problems]
    : [
        ...problems,
        `${torn.segment} ended at byte ${torn.byte} in the middle of a batch, as after a power failure: no answer had left for its records; what there was of them is kept in ${torn.kept}`,
      ]

const storeOf = (
  { chain: { node }, tables }: SegmentOptions,
  connection: WriterConnection,
  index: IndexConnection,
  last: { checkpoint: Started['checkpoint'] },
): AuditStore => ({
  joinsWrites: false,
  node,
  async append(rows, after) {
    if (after !== undefined && after.hash !== connection.state.head.hash)
      throw refuse('conflict', { what: 'audit log' })
    await connection.ask({ kind: 'place', records: rows.map(({ seq, body, hash, at }) => ({ seq, body, hash, at })) })
  },
  apply: (writes) => tables.apply(writes),
  head() {
    const { head } = connection.state
    return Promise.resolve(head.seq === 0 ? undefined : head)
  },
  chains: () => Promise.resolve(connection.state.head.seq === 0 ? [] : [node]),
  async query(filter, page) {
    const { node: of } = filter
    if (of !== undefined && of !== '*' && of !== node) return []
    const { rows = [] } = await index.ask({ kind: 'query', durable: connection.state.durable, filter, page })
    return of === undefined ? [...rows] : rows.map((row) => ({ node, ...row }))
  },
  async addCheckpoint(checkpoint) {
    await connection.ask({ kind: 'checkpoint', checkpoint })
    last.checkpoint = checkpoint
  },
  lastCheckpoint: () => Promise.resolve(last.checkpoint),
  lastCheckpoints: () => Promise.resolve(last.checkpoint === undefined ? [] : [{ node, ...last.checkpoint }]),
  async segments(of = node): Promise<readonly SegmentFile[]> {
    return of === node ? ((await connection.ask({ kind: 'files' })).files ?? []) : []
  },
  async checkpoints(of = node, page = { afterSeq: 0, limit: Number.MAX_SAFE_INTEGER }) {
    if (of !== node) return []
    const { checkpoints = [] } = await index.ask({ kind: 'checkpoints', durable: connection.state.durable, page })
    return [...checkpoints]
  },
})

/**
 * Opens the audit log in segment files, and finds the end of its chain.
 * @throws DeputyError `start_failed` where it cannot be gone on with, or another process writes it
 */
export const openSegmentAudit = async (options: SegmentOptions): Promise<SegmentAudit> => {
  const { folder, chain, rules, tables, sign, logger } = options
  const thread = { folder, chain, rules }
  const moved = await adoptRecords({ thread, tables, sign, logger })
  const { connection, started } = await WriterConnection.open(thread)
  const problems = [...moved, ...problemsOf(started)]
  for (const problem of problems)
    logger.error({ problem }, 'the audit log is not as it was written; run deputy audit verify')
  const index = new IndexConnection({ folder, node: chain.node })
  const last = { checkpoint: started.checkpoint, sealWanted: false }
  const stop = followSegments(connection, index)
  const store = storeOf(options, connection, index, last)
  const emptying = emptyTables({ tables, logger }, store).catch((error: unknown) => {
    logger.error({ err: error }, 'audit records that are in files by now were not removed from the database')
  })
  return {
    store,
    openChain: (watch, events, needsRows) =>
      Promise.resolve(new SegmentChain(connection, { watch, events, needsRows }, last)),
    problems,
    sealSoon() {
      last.sealWanted = true
    },
    prune: (how) => prune({ connection, index, node: chain.node }, how),
    async close() {
      stop()
      await emptying
      await index.close()
      await connection.close()
    },
  }
}
