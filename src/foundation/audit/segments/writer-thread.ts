/** The thread that writes the segments of a chain. It links and hashes the records too, which is most of the work. */
import { join } from 'node:path'
import type { DatabaseSync } from 'node:sqlite'
import { parentPort, workerData } from 'node:worker_threads'
import { isHeld, takeHold } from '#foundation/hold'
import type { SegmentFile } from '#foundation/store'
import { diskFiles } from './file-operations.ts'
import type { WriterReply, WriterRequest, WriterStart, WriterThread } from './protocol.ts'
import { segmentPath } from './folder.ts'
import { DamagedEnd } from './scan.ts'
import { ChainConflict, SegmentWriter } from './writer.ts'

const { folder, chain, rules } = workerData as WriterThread
const port = parentPort!

const filesOf = (writer: SegmentWriter): SegmentFile[] => {
  const sealed = writer.sealed.map(({ path, number, bytes, removed }) => ({
    path,
    number,
    bytes,
    removed,
    sealed: true,
  }))
  const { number, bytes } = writer.durable
  return number === (sealed.at(-1)?.number ?? 0)
    ? sealed
    : [...sealed, { path: segmentPath(folder, chain.node, number), number, bytes, removed: false, sealed: false }]
}

/** Does what is asked. @returns what the answer says beside the state of the chain */
const run = (writer: SegmentWriter, request: WriterRequest): Partial<Extract<WriterReply, { head: unknown }>> => {
  switch (request.kind) {
    case 'append':
      writer.append(request)
      return {}
    case 'place':
      writer.appendPlaced(request.records, request)
      return {}
    case 'checkpoint':
      writer.addCheckpoint(request.checkpoint, request.asIs)
      return {}
    case 'footer': {
      const footer = writer.unsignedFooter(request.now)
      return footer === undefined ? {} : { footer }
    }
    case 'seal':
      writer.seal(request.footer)
      return {}
    case 'probe':
      writer.probe(request.now)
      return {}
    case 'files':
      return { files: filesOf(writer) }
    case 'sealed':
      return { sealed: writer.sealed }
    case 'leave':
      writer.leaveFooters(request.numbers)
      return {}
    case 'remove':
      writer.remove(request.numbers)
      return {}
    default:
      writer.close()
      return {}
  }
}

const problemOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** The time that a request tells of. The thread has no clock: a test's would be another one. */
const timeOf = (request: WriterRequest): number | undefined =>
  request.kind === 'append' ? request.to : request.kind === 'place' ? request.records.at(-1)?.at : undefined

const serve = (writer: SegmentWriter, lock: DatabaseSync): void => {
  let now = 0
  port.on('message', (request: WriterRequest) => {
    try {
      const answer = run(writer, request)
      now = timeOf(request) ?? now
      const { head, durable } = writer
      port.postMessage({ id: request.id, head, durable, isDue: writer.isDue(now), ...answer } satisfies WriterReply)
    } catch (error) {
      const conflict = error instanceof ChainConflict
      port.postMessage({ id: request.id, problem: problemOf(error), conflict } satisfies WriterReply)
    }
    if (request.kind !== 'close') return
    lock.close()
    port.close()
  })
}

let lock: DatabaseSync | undefined
try {
  diskFiles.makeFolder(folder)
  // Other processes stay out of the folder as long as this one lives.
  lock = takeHold(join(folder, 'hold'))
  const writer = SegmentWriter.open({ files: diskFiles, folder, chain, rules })
  serve(writer, lock)
  const { head, durable, recovery, lastCheckpoint: checkpoint } = writer
  port.postMessage({ head, durable, isDue: false, recovery, checkpoint } satisfies WriterStart)
} catch (error) {
  const held = lock === undefined && isHeld(error)
  lock?.close()
  const place = error instanceof DamagedEnd ? { path: error.damage.path, byte: error.damage.byte } : {}
  port.postMessage({ problem: problemOf(error), held, ...place } satisfies WriterStart)
}
