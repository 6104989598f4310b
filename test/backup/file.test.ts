import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BadContent, readContent, writeContent, type Source } from '../../src/foundation/backup/content.ts'
import { AlteredChunk, CHUNK, openSealed, SealedWriter } from '../../src/foundation/backup/sealing.ts'

const KEY = Buffer.alloc(32, 7)

const seal = async (pieces: readonly Uint8Array[]): Promise<Buffer> => {
  const sealed: Uint8Array[] = []
  const writer = new SealedWriter(KEY, (bytes) => {
    sealed.push(Buffer.from(bytes))
    return Promise.resolve()
  })
  for (const piece of pieces) await writer.write(piece)
  await writer.end()
  return Buffer.concat(sealed)
}
const opening = (sealed: Buffer, key: Uint8Array = KEY) =>
  openSealed(key, (at, length) => Promise.resolve(sealed.subarray(at, at + length)), { from: 0, to: sealed.length })
const open = async (sealed: Buffer): Promise<Buffer> => Buffer.concat(await collect(opening(sealed)))
const collect = async <T>(items: AsyncIterable<T>): Promise<T[]> => {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}

/** Lengths around the ends of chunks. */
const aLength = fc.oneof(
  fc.nat(300),
  fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: -2, max: 2 })).map(([chunks, by]) => chunks * CHUNK + by),
)
const someBytes = aLength.map((length) => Buffer.from(Array.from({ length }, (_, at) => (at * 31) % 251)))

const sourceOf = (path: string, content: Buffer, bytes = content.length): Source => ({
  path,
  mode: 0o600,
  bytes,
  content: (async function* () {
    yield content
  })(),
})
const written = async (sources: readonly Source[]): Promise<Buffer> => {
  const pieces: Uint8Array[] = []
  await writeContent(
    (bytes) => {
      pieces.push(Buffer.from(bytes))
      return Promise.resolve()
    },
    { a: 'manifest' },
    sources,
  )
  return seal(pieces)
}
const read = async (sealed: Buffer): Promise<Map<string, Buffer>> => {
  const found = new Map<string, Buffer>()
  await readContent(opening(sealed), {
    manifest: (manifest) => {
      expect(manifest).toEqual({ a: 'manifest' })
    },
    entry: async ({ path }, content) => {
      found.set(path, Buffer.concat(await collect(content)))
    },
  })
  return found
}

describe('the file of a backup', () => {
  it('gives back what was written, however it was cut into pieces', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(someBytes, { maxLength: 4 }), async (contents) => {
        const sealed = await written(contents.map((content, at) => sourceOf(`configuration/${at}`, content)))
        expect([...(await read(sealed)).values()]).toEqual(contents)
      }),
      { numRuns: 60 },
    )
  })

  it('does not open with a bit changed, bytes missing, added or moved, or another key', async () => {
    await fc.assert(
      fc.asyncProperty(someBytes, fc.nat(), fc.integer({ min: 0, max: 7 }), async (content, place, bit) => {
        const sealed = await seal([content])
        const at = place % sealed.length
        const flipped = Buffer.from(sealed)
        flipped[at]! ^= 1 << bit
        await expect(open(flipped)).rejects.toThrow(AlteredChunk)
        await expect(open(sealed.subarray(0, at))).rejects.toThrow(AlteredChunk)
        await expect(open(Buffer.concat([sealed, Buffer.alloc((place % 50) + 1)]))).rejects.toThrow(AlteredChunk)
      }),
      { numRuns: 80 },
    )
    const three = await seal([Buffer.alloc(3 * CHUNK)])
    const chunk = CHUNK + 16
    const [first, second, third] = [0, 1, 2].map((at) => three.subarray(at * chunk, (at + 1) * chunk)) as Buffer[]
    for (const moved of [
      [second, first, third],
      [first, third],
      [first, second],
      [first, first, third],
    ])
      await expect(open(Buffer.concat(moved as Buffer[]))).rejects.toThrow(AlteredChunk)
    await expect(collect(opening(three, Buffer.alloc(32)))).rejects.toThrow(AlteredChunk)
  })

  it('takes no path that leads out, no name twice, and no file that changed while it was read', async () => {
    for (const path of ['../x', 'configuration/../../x', '/etc/passwd', 'other/x', 'audit//x', 'store/.', 'keys/a\\b'])
      await expect(written([sourceOf(path, Buffer.from('x'))])).rejects.toThrow()
    const twice = await written([sourceOf('store/a', Buffer.from('1')), sourceOf('store/a', Buffer.from('2'))])
    await expect(read(twice)).rejects.toThrow(BadContent)
    await expect(written([sourceOf('store/a', Buffer.from('1'), 2)])).rejects.toThrow(BadContent)
    const unfinished = await seal([
      Buffer.from('{"manifest":{"a":"manifest"}}\n{"entry":{"path":"store/a","mode":384,"bytes":9}}\n123'),
    ])
    await expect(read(unfinished)).rejects.toThrow(BadContent)
  })
})
