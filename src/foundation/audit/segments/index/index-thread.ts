/** The thread of the index: it reads what the segments have got since, and answers searches. */
import { join } from 'node:path'
import { parentPort, workerData } from 'node:worker_threads'
import type { AuditCheckpoint } from '#foundation/store'
import { readLine } from '../../format/segment.ts'
import type { Durable } from '../writer.ts'
import { IndexFeed } from './feed.ts'
import { byteOf, IndexFile, segmentOf } from './index-file.ts'
import type { IndexReply, IndexRequest, IndexThread } from './protocol.ts'
import { search } from './search.ts'
import { SegmentReader } from './segment-reader.ts'

const { folder, node } = workerData as IndexThread
const port = parentPort!
const path = join(folder, 'index.db')
const reader = new SegmentReader(folder, node)

const progress = (): void => {
  port.postMessage({ id: 0 } satisfies IndexReply)
}
let index = IndexFile.open(path)
let feed = new IndexFeed(index, reader, progress)

const makeAnew = (): void => {
  index.close()
  reader.close()
  index = IndexFile.makeAnew(path)
  feed = new IndexFeed(index, reader, progress)
}

const matches = (): boolean => {
  try {
    return feed.matches()
  } catch {
    return false
  }
}
if (!matches()) makeAnew()

const catchUp = (durable: Durable): void => {
  try {
    feed.catchUp(durable)
  } catch {
    // A damaged index is worth nothing, and the segments are there.
    makeAnew()
    feed.catchUp(durable)
  }
}

const checkpoints = ({ afterSeq, limit }: { readonly afterSeq: number; readonly limit: number }): AuditCheckpoint[] =>
  index
    .prepare('select place from checkpoints where seq > ? order by seq limit ?')
    .all(afterSeq, Math.min(limit, Number.MAX_SAFE_INTEGER))
    .flatMap(({ place }) => {
      const line = reader.line(segmentOf(Number(place)), byteOf(Number(place)))
      const read = line === undefined ? undefined : readLine(line.toString('utf8'))
      return read?.kind === 'checkpoint' ? [read.checkpoint] : []
    })

const answer = (request: IndexRequest): Partial<IndexReply> => {
  if (request.kind === 'close') {
    index.close()
    reader.close()
    return {}
  }
  catchUp(request.durable)
  if (request.kind === 'forget') index.forget(request.upTo)
  if (request.kind === 'query') return { rows: search(index, reader, request.filter, { ...request.page, progress }) }
  if (request.kind === 'checkpoints') return { checkpoints: checkpoints(request.page) }
  return {}
}

port.on('message', (request: IndexRequest) => {
  const { id } = request
  try {
    port.postMessage({ id, ...answer(request) } satisfies IndexReply)
  } catch (error) {
    port.postMessage({ id, problem: error instanceof Error ? error.message : String(error) } satisfies IndexReply)
  }
  if (request.kind === 'close') port.close()
})
