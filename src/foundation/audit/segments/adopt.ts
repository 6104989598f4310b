import { rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { DeputyError } from '#errors'
import type { AuditCheckpoint, AuditRow, AuditStore } from '#foundation/store'
import { syncFolder } from '#foundation/files'
import type { Logger } from '#foundation/telemetry'
import { EARLIER_GENESIS, unlinkedText } from '../format/chain.ts'
import type { Sign } from '../format/signature.ts'
import { checkpointsOf, recordPages } from '../pages.ts'
import type { WriterThread } from './protocol.ts'
import { WriterConnection } from './writer-connection.ts'

/** Rows that are removed from the tables at once. */
const REMOVED_AT_ONCE = 5000

export interface Adoption {
  readonly thread: WriterThread
  readonly tables: AuditStore
  readonly sign: Sign
  readonly logger: Logger
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false
      throw error
    },
  )

/** Of what could not be taken over as it should be, the first ones are told. */
const MAX_PROBLEMS = 10

/** What a move has come to. */
class Move {
  readonly #connection: WriterConnection
  readonly #problems: string[] = []
  count = 0

  constructor(connection: WriterConnection) {
    this.#connection = connection
  }

  get problems(): readonly string[] {
    return this.#problems
  }

  /**
   * Each record is checked as it is written: its hash, what it follows, and its columns. One that is not as it should
   * be is moved nevertheless.
   */
  async records(rows: readonly AuditRow[]): Promise<void> {
    const [first] = rows
    if (first === undefined) return
    for (const row of rows)
      if (!row.body.startsWith(frontOf(row), row.body.indexOf('"id":')))
        this.#problem(`the columns of record ${row.seq} differ from its text: it was altered`)
    const records = rows.map(({ seq, body, hash, at }) => ({ seq, body, hash, at }))
    const isEarlier = this.count === 0 && /"prev":"([\da-f]{64})"/.exec(first.body)?.[1] === EARLIER_GENESIS
    const after = isEarlier ? { after: EARLIER_GENESIS } : {}
    try {
      await this.#connection.ask({ kind: 'place', records, ...after })
    } catch (error) {
      if (!isConflict(error)) throw error
      this.#problem(`the chain is broken between record ${first.seq} and record ${rows.at(-1)!.seq}`)
      await this.#connection.ask({ kind: 'place', records, ...after, asIs: true })
    }
    this.count += rows.length
  }

  async checkpoint(checkpoint: AuditCheckpoint): Promise<void> {
    try {
      await this.#connection.ask({ kind: 'checkpoint', checkpoint })
    } catch (error) {
      if (!isConflict(error)) throw error
      this.#problem(`a checkpoint signed another record ${checkpoint.seq} than there is`)
      await this.#connection.ask({ kind: 'checkpoint', checkpoint, asIs: true })
    }
  }

  #problem(problem: string): void {
    if (this.#problems.length < MAX_PROBLEMS) this.#problems.push(problem)
  }
}

/** How the columns of a row stand in its text. */
const frontOf = ({ id, at, event, outcome, tenant, user, server, downstream }: AuditRow): string =>
  unlinkedText({ id, at, event, outcome, tenant, user, server, downstream }, '').slice(0, -1)

const isConflict = (error: unknown): boolean => error instanceof DeputyError && error.code === 'conflict'

/** Writes the records of the tables into segments, as they are, each checkpoint directly behind its record. */
const moveRecords = async ({ tables, sign }: Adoption, connection: WriterConnection): Promise<Move> => {
  const move = new Move(connection)
  const checkpoints = checkpointsOf(tables, tables.node)
  let { value: next } = await checkpoints.next()
  const takeCheckpoints = async (until: number): Promise<void> => {
    for (; next !== undefined && next.seq <= until; { value: next } = await checkpoints.next())
      await move.checkpoint(next)
  }
  for await (const rows of recordPages(tables, {}))
    for (let from = 0; from < rows.length;) {
      const signed = next === undefined ? -1 : rows.findIndex(({ seq }) => seq >= next!.seq)
      const until = signed === -1 ? rows.length : signed + 1
      await move.records(rows.slice(from, until))
      await takeCheckpoints(rows[until - 1]!.seq)
      if (connection.state.isDue) await connection.seal(sign, rows.at(-1)!.at)
      from = until
    }
  await takeCheckpoints(Infinity)
  return move
}

/**
 * The tables have their records in the segments as well: they are taken out, a page at a time, so that other work goes
 * on.
 * @param segments where they must be
 */
export const emptyTables = async (
  { tables, logger }: Pick<Adoption, 'tables' | 'logger'>,
  segments: Pick<AuditStore, 'query'>,
): Promise<void> => {
  const head = await tables.head()
  if (head === undefined) return
  const [row] = await segments.query({ afterSeq: head.seq - 1 }, { limit: 1 })
  if (row?.hash !== head.hash) {
    logger.error(
      { record: head.seq },
      'the database has audit records that the files of the audit log do not have: an earlier version of Deputy wrote them, or one of the two was put back from a copy; they are left where they are',
    )
    return
  }
  let removed = 0
  for (let count = 1; count > 0; removed += count) count = (await tables.removeOldest?.(REMOVED_AT_ONCE)) ?? 0
  logger.info({ records: removed }, 'the audit records were removed from the database')
}

/**
 * Takes the records of an earlier version out of the tables into segments, once. They are written into a folder beside,
 * which gets its name when it is whole: a process that is killed meanwhile begins anew, and one that is killed later
 * goes on with removing what the tables have still.
 * @returns what is not as it should be in the chain that was moved, each as a sentence
 * @throws DeputyError `store_unavailable`, `start_failed`
 */
export const adoptRecords = async (adoption: Adoption): Promise<readonly string[]> => {
  const { thread, tables, logger } = adoption
  if ((await exists(thread.folder)) || (await tables.head()) === undefined) return []
  const unfinished = `${thread.folder}.unfinished`
  await rm(unfinished, { recursive: true, force: true })
  logger.info({ folder: thread.folder }, 'the audit records of the database are being moved into files')
  const { connection } = await WriterConnection.open({ ...thread, folder: unfinished })
  let move: Move
  try {
    move = await moveRecords(adoption, connection)
  } finally {
    await connection.close()
  }
  await rename(unfinished, thread.folder)
  await syncFolder(dirname(thread.folder))
  logger.info({ records: move.count }, 'the audit records of the database are in files now')
  return move.problems.map((problem) => `in the audit log of the database, ${problem}`)
}
