import type { AuditCheckpoint, AuditFilter, AuditRow, AuditStore } from '#foundation/store'

/** Rows that are read at once. */
const PAGE = 1000

/** The records of one chain that match, page by page: a log grows for years, and is never in memory as a whole. */
export async function* recordPages(
  store: Pick<AuditStore, 'query'>,
  filter: Omit<AuditFilter, 'afterSeq'>,
  limit = PAGE,
): AsyncIterable<readonly AuditRow[]> {
  for (let afterSeq = 0; ;) {
    const page = await store.query({ ...filter, afterSeq }, { limit })
    if (page.length > 0) yield page
    if (page.length < limit) return
    afterSeq = page.at(-1)!.seq
  }
}

/** The checkpoints of a chain, one after the other, read page by page. */
export async function* checkpointsOf(
  store: Pick<AuditStore, 'checkpoints'>,
  node: string,
): AsyncGenerator<AuditCheckpoint, undefined> {
  for (let afterSeq = 0; ;) {
    const page = await store.checkpoints(node, { afterSeq, limit: PAGE })
    yield* page
    if (page.length < PAGE) return undefined
    afterSeq = page.at(-1)!.seq
  }
}
