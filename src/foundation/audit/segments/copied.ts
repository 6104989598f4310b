import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { refuse } from '#errors'
import type { CopiedAudit } from '#foundation/store'
import { readLine } from '../format/segment.ts'
import { rowOf } from './index/search.ts'

const CHUNK = 4_194_304
const LINE_FEED = 0x0a
const NAME = /^([\w.-]+)-\d{10}\.jsonl$/

/** The whole lines of a file, by pieces; room and what a power failure left of a batch at its end are no lines. */
async function* linesOf(path: string): AsyncIterable<Buffer[]> {
  const file = await open(path, 'r')
  try {
    let rest: Buffer = Buffer.alloc(0)
    for (let at = 0; ;) {
      const chunk = Buffer.allocUnsafe(CHUNK)
      const { bytesRead } = await file.read(chunk, 0, CHUNK, at)
      at += bytesRead
      const bytes = Buffer.concat([rest, chunk.subarray(0, bytesRead)])
      const lines: Buffer[] = []
      let start = 0
      for (let end = bytes.indexOf(LINE_FEED); end !== -1; end = bytes.indexOf(LINE_FEED, start)) {
        lines.push(bytes.subarray(start, end))
        start = end + 1
      }
      const zero = lines.findIndex((line) => line.includes(0))
      yield zero === -1 ? lines : lines.slice(0, zero)
      rest = bytes.subarray(start)
      if (bytesRead === 0 || zero !== -1) return
    }
  } finally {
    await file.close()
  }
}

/**
 * The records and checkpoints that a folder of segments holds, by pieces. No daemon may write there meanwhile.
 * @throws DeputyError `config_invalid` for a line that cannot be read
 */
export async function* copySegments(folder: string): AsyncIterable<CopiedAudit> {
  const names = (await readdir(folder)).sort()
  for (const name of names) {
    const node = NAME.exec(name)?.[1]
    if (node === undefined) continue
    for await (const lines of linesOf(join(folder, name))) {
      const found = lines.map((line) => ({ read: readLine(line.toString('utf8')), row: rowOf(line) }))
      if (found.some(({ read, row }) => read === undefined || (read.kind === 'record' && row === undefined)))
        throw refuse('config_invalid', {
          problem: `a line of ${join(folder, name)} cannot be read; run deputy audit verify`,
        })
      yield {
        node,
        records: found.flatMap(({ row }) => row ?? []),
        checkpoints: found.flatMap(({ read }) => (read?.kind === 'checkpoint' ? [read.checkpoint] : [])),
      }
    }
  }
}
