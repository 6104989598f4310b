/**
 * Power loss and failing disks. The writer gets its file operations as an argument, and here they are those of a disk that keeps for
 * certain only what was synced. That is as much as a FUSE file system or a preloaded library that drops writes would show, because
 * the writer has no other way to a disk; and it is more, for it also tears a batch by sectors, in any order, and loses names.
 */
import { hash } from 'node:crypto'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readLine, type SegmentFooter } from '../../src/foundation/audit/format/segment.ts'
import { checkpointBytes } from '../../src/foundation/audit/format/checkpoint.ts'
import { footerBytes } from '../../src/foundation/audit/format/segment.ts'
import { ChainWalk } from '../../src/foundation/audit/verify/walk.ts'
import { SegmentWriter } from '../../src/foundation/audit/segments/writer.ts'
import { known, signer } from '../support/audit.ts'
import { SimulatedDisk, type Choose } from '../support/simulated-disk.ts'

const FOLDER = '/state/audit'
const RULES = { size: 12_000, age: 86_400_000 }

const open = (disk: SimulatedDisk): SegmentWriter =>
  SegmentWriter.open({ files: disk, folder: FOLDER, chain: known.chain, rules: RULES })

const segmentsOf = (disk: SimulatedDisk): string[] =>
  disk
    .list(FOLDER)
    .filter((name) => name.endsWith('.jsonl'))
    .sort()
    .map((name) => `${FOLDER}/${name}`)

/** The ids of all records, after the chain was walked along. */
const recordsOf = (disk: SimulatedDisk): { ids: string[]; problem: string | undefined } => {
  // A signature counts under the name of its key alone.
  const verifySignature: typeof known.verifySignature = (kid, ...rest) =>
    kid === signer(new Uint8Array()).kid && known.verifySignature(kid, ...rest)
  const walk = new ChainWalk({ ...known, verifySignature })
  const ids: string[] = []
  for (const path of segmentsOf(disk)) {
    const content = disk.contentOf(path)
    const end = content.indexOf(0)
    let before = 0
    for (const line of content
      .subarray(0, end === -1 ? undefined : end)
      .toString()
      .split('\n')
      .slice(0, -1)) {
      const read = readLine(line)
      if (read === undefined) return { ids, problem: `unreadable: ${line.slice(0, 60)}` }
      if (read.kind === 'record') ids.push((JSON.parse(read.body) as { id: string }).id)
      if (read.kind === 'footer')
        walk.addFooter(read.footer, { bytes: before, digest: hash('sha256', content.subarray(0, before)) })
      else walk.add(read)
      before += Buffer.byteLength(line) + 1
    }
  }
  return { ids, problem: walk.finish().problem?.why }
}

/** What the log does with a writer: batches, checkpoints, sealing. */
class Model {
  readonly disk: SimulatedDisk
  writer: SegmentWriter
  readonly acknowledged: string[] = []
  /** Records that were sent and not acknowledged: each is there or not. */
  readonly unsure = new Set<string>()
  #next = 1
  #checkpoints = 0

  constructor(disk: SimulatedDisk) {
    this.disk = disk
    this.writer = open(disk)
  }

  append(sizes: readonly number[]): boolean {
    const ids = sizes.map(() => `r${this.#next++}`)
    const text = ids
      .map(
        (id, at) =>
          `"id":"${id}","at":1,"event":"login","outcome":"done","tenant":null,"user":null,"server":null,"downstream":null,"detail":{"x":"${'y'.repeat(sizes[at]!)}"}}\n`,
      )
      .join('')
    try {
      this.writer.append({ text, from: 1, to: 1 })
    } catch {
      for (const id of ids) this.unsure.add(id)
      return false
    }
    this.acknowledged.push(...ids)
    return true
  }

  checkpoint(): void {
    if (this.writer.head.seq === 0 || this.writer.lastCheckpoint?.seq === this.writer.head.seq) return
    const number = (this.writer.lastCheckpoint?.number ?? 0) + 1
    const unsigned = { number, seq: this.writer.head.seq, hash: this.writer.head.hash, at: 1 }
    const { kid, signature } = signer(checkpointBytes(known.chain, unsigned))
    try {
      this.writer.addCheckpoint({ ...unsigned, kid, signature: signature.toString('base64url') })
      this.#checkpoints = number
    } catch {
      // It is tried again with the next one.
    }
  }

  seal(): void {
    this.checkpoint()
    if (this.writer.lastCheckpoint?.seq !== this.writer.head.seq) return
    const footer = this.writer.unsignedFooter(1)
    if (footer === undefined) return
    const { kid, signature } = signer(footerBytes(footer))
    try {
      this.writer.seal({ ...footer, kid, signature: signature.toString('base64url') } satisfies SegmentFooter)
    } catch {
      // It is sealed later.
    }
  }

  restart(): void {
    this.writer = open(this.disk)
  }

  /** Nothing acknowledged is missing, the chain holds, and the start found nothing that was altered. */
  assertWhole(): void {
    expect(this.writer.recovery.problems).toEqual([])
    const { ids, problem } = recordsOf(this.disk)
    expect(problem).toBeUndefined()
    const there = new Set(ids)
    expect(this.acknowledged.filter((id) => !there.has(id))).toEqual([])
    const acknowledged = new Set(this.acknowledged)
    expect(ids.filter((id) => !acknowledged.has(id) && !this.unsure.has(id))).toEqual([])
    expect(there.size).toBe(ids.length)
    expect(this.writer.head.seq).toBe(ids.length)
    expect(this.writer.lastCheckpoint?.number ?? 0).toBeGreaterThanOrEqual(this.#checkpoints)
  }
}

/** What survives, as a seed says. */
const chooser = (seed: number): Choose => {
  let state = seed
  return (count) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * count)
  }
}

const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('append' as const),
      sizes: fc.array(fc.nat({ max: 3000 }), { minLength: 1, maxLength: 6 }),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ kind: 'checkpoint' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'seal' as const }) },
  { weight: 2, arbitrary: fc.constant({ kind: 'crash' as const }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('fault' as const),
      at: fc.nat({ max: 12 }),
      count: fc.integer({ min: 1, max: 4 }),
      code: fc.constantFrom('ENOSPC' as const, 'EIO' as const),
    }),
  },
)

/** The power fails within an operation as well: the operation after this one does not come back. */
const crashWithin = (model: Model, at: number, work: () => void): void => {
  model.disk.plan({ at, code: 'EIO', count: Number.MAX_SAFE_INTEGER })
  work()
}

describe('segments on a disk that loses what was not synced', () => {
  it.each([512, 4096])(
    'promise 3: have every acknowledged record after any power failure, by sectors of %i bytes',
    (sector) => {
      fc.assert(
        fc.property(fc.array(step, { minLength: 1, maxLength: 30 }), fc.nat(), (steps, seed) => {
          const choose = chooser(seed)
          const model = new Model(new SimulatedDisk(sector))
          for (const each of [...steps, { kind: 'crash' as const }]) {
            if (each.kind === 'append') model.append(each.sizes)
            else if (each.kind === 'checkpoint') model.checkpoint()
            else if (each.kind === 'seal') model.seal()
            else if (each.kind === 'fault') model.disk.plan(each)
            else {
              if (choose(2) === 1)
                crashWithin(model, choose(8), () => (choose(3) === 0 ? model.seal() : model.append([500, 3000])))
              model.disk.crash(choose)
              model.restart()
              model.assertWhole()
            }
          }
        }),
        { numRuns: Number(process.env['DEPUTY_RUNS'] ?? 50) },
      )
    },
  )

  it('promise 3: have every acknowledged record when the power fails within the recovery', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat({ max: 6 }), (seed, at) => {
        const choose = chooser(seed)
        const model = new Model(new SimulatedDisk(512))
        model.append([100, 2000])
        crashWithin(model, 1 + choose(2), () => model.append([3000, 3000, 500]))
        model.disk.crash(choose)
        model.disk.plan({ at, code: 'EIO', count: 1_000 })
        try {
          model.restart()
        } catch {
          // The power fails here.
        }
        model.disk.crash(choose)
        model.restart()
        model.assertWhole()
      }),
      { numRuns: Number(process.env['DEPUTY_RUNS'] ?? 40) },
    )
  })

  it.each(['ENOSPC', 'EIO'] as const)(
    'refuse with %s at each operation, lose nothing, and go on when the disk does',
    (code) => {
      for (let at = 0; at < 14; at += 1)
        for (const count of [1, 3, 8]) {
          const model = new Model(new SimulatedDisk(512))
          model.append([700])
          model.checkpoint()
          model.disk.plan({ at, code, count })
          for (let tries = 0; tries < 3; tries += 1) {
            model.append([2000, 100])
            model.checkpoint()
            model.seal()
          }
          model.disk.plan(undefined)
          expect(model.append([50])).toBe(true)
          expect(recordsOf(model.disk)).toMatchObject({ problem: undefined })
          model.writer.close()
          model.restart()
          model.assertWhole()
        }
    },
  )

  it('start or verify with a complaint when any bit of any file is another one', () => {
    const model = new Model(new SimulatedDisk(512))
    for (let at = 0; at < 12; at += 1) {
      model.append([at * 40, 900 - at * 60])
      if (at % 3 === 1) model.checkpoint()
      if (at === 5) model.seal()
    }
    model.writer.close()
    const paths = segmentsOf(model.disk)
    const contents = paths.map((path) => model.disk.contentOf(path))
    /**
     * What no proof can cover: the time in the header of a segment that is not sealed, unused bits of base64, the end of the last line, and room from its
     * beginning or that of a sector on, which is what a batch leaves that the power has torn.
     */
    const isFree = (content: Buffer, byte: number, isSealed: boolean): boolean => {
      const headerEnd = content.indexOf(10)
      const isRoom = content[byte] === 0
      if (isRoom ? byte % 512 === 0 || content[byte - 1] !== 0 : content[byte + 1] === 0) return true
      if (!isSealed && byte < headerEnd) return byte > content.lastIndexOf('"at":', headerEnd) + 4
      return content.toString('latin1', byte + 1, byte + 3) === '"}' && content[byte - 86] === 0x22
    }
    fc.assert(
      fc.property(fc.nat(), fc.nat(), fc.nat({ max: 7 }), (which, where, bit) => {
        const at = which % paths.length
        // Room is a million zeros, and one of them is as good as any other.
        const content = contents[at]!
        const byte =
          where % Math.min(content.length, (content.indexOf(0) === -1 ? content.length : content.indexOf(0)) + 600)
        if (isFree(content, byte, at === 0)) return
        const flip = (): void => {
          model.disk.damage(paths[at]!, byte, (value) => value ^ (1 << bit))
        }
        flip()
        let complaint: string | undefined
        try {
          const writer = open(model.disk)
          const { recovery } = writer
          writer.close()
          complaint = [...recovery.problems, recordsOf(model.disk).problem].find((each) => each !== undefined)
        } catch (error) {
          complaint = (error as Error).message
        }
        flip()
        expect([paths[at], byte, bit, complaint]).toEqual([paths[at], byte, bit, expect.any(String)])
        // Nothing was changed by the attempt.
        expect(model.disk.contentOf(paths[at]!).equals(content)).toBe(true)
      }),
      { numRuns: Number(process.env['DEPUTY_RUNS'] ?? 100), endOnFailure: true },
    )
  })
})
