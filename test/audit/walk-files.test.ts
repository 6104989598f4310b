import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { walkInOrder, walkOnThread } from '../../src/foundation/audit/verify/thread.ts'
import type { Walked } from '../../src/foundation/audit/verify/walk.ts'
import { aFolder } from '../support/audit.ts'

/** The chain of the page's example as files: a sealed segment, and an open one. */
const anExample = async () => {
  const [first, ...lines] = (await readFile(join(import.meta.dirname, '../../docs/audit-example.jsonl'), 'utf8')).split(
    '\n',
  )
  const { keys, installation } = (JSON.parse(first!) as { export: { installation: string; keys: { kid: string }[] } })
    .export
  const second = lines.findLastIndex((line) => line.startsWith('{"segment"'))
  const folder = await aFolder()
  const paths = [join(folder, '1.jsonl'), join(folder, '2.jsonl')]
  const texts = [lines.slice(0, second), lines.slice(second, second + 3)].map((part) => `${part.join('\n')}\n`)
  const walk = async (
    contents: readonly (string | Buffer)[],
    bytes?: readonly number[],
    onThread = false,
  ): Promise<Walked> => {
    await Promise.all(contents.map((content, at) => writeFile(paths[at]!, content)))
    const order = {
      chain: { installation, node: 'local' },
      heads: [],
      keys: keys.map((jwk) => ({ kid: jwk.kid, jwk })),
      files: contents.map((content, at) => ({ path: paths[at]!, bytes: bytes?.[at] ?? Buffer.byteLength(content) })),
    }
    return onThread ? walkOnThread(order) : walkInOrder(order)
  }
  return { texts, walk }
}

describe('walking along segment files on a thread', () => {
  it('holds for the example, reads no byte that is not durable, and takes a lone footer for a removed segment', async () => {
    const { texts, walk } = await anExample()
    expect(await walk(texts, undefined, true)).toMatchObject({ records: 3, checkpoints: 2, removed: [] })
    expect((await walk(texts)).problem).toBeUndefined()
    const bytes = texts.map((text) => Buffer.byteLength(text))
    expect((await walk([texts[0]!, `${texts[1]!}\0\0\0\0{"half`], bytes)).problem).toBeUndefined()
    const footer = texts[0]!.slice(texts[0]!.indexOf('{"footer"'))
    const gone = await walk([footer, texts[1]!])
    expect(gone).toMatchObject({ records: 3, removed: [{ from: 1, to: 2 }] })
    expect(gone.problem).toBeUndefined()
  })

  it('promise 3: finds a flipped bit in every region, a missing segment and a cut one', async () => {
    const { texts, walk } = await anExample()
    const [sealed, open] = texts as [string, string]
    await fc.assert(
      fc.asyncProperty(fc.nat(sealed.length - 2), async (at) => {
        const flipped = Buffer.from(sealed)
        flipped[at]! ^= 1
        expect((await walk([flipped.toString('latin1'), open])).problem).toBeDefined()
      }),
      { numRuns: 200 },
    )
    expect((await walk([open])).problem?.why).toBe('segment 1 is missing')
    expect((await walk([sealed.slice(0, -30), open])).problem).toBeDefined()
    expect((await walk([sealed], [Buffer.byteLength(sealed) + 10])).problem?.why).toContain('shorter')
    // The records of another sealed segment, under this footer.
    const other = sealed.replace('"number":1,"seq":2', '"number":1,"seq":2 ')
    expect(createHash('sha256').update(other).digest('hex')).not.toBe(createHash('sha256').update(sealed).digest('hex'))
    expect((await walk([other, open])).problem).toBeDefined()
    // A byte that is no UTF-8, in place of the character that it would be read as.
    const text = /"record":(\{.*\})\}\n/.exec(open)![1]!.replace('"id":"', '"id":"\ufffd')
    const lines = open.split('\n').slice(0, 1)
    const record = `{"hash":"${createHash('sha256').update(text).digest('hex')}","record":${text}}`
    const unsigned = Buffer.from(`${[...lines, record].join('\n')}\n`)
    expect((await walk([sealed, unsigned])).problem).toBeUndefined()
    const at = unsigned.indexOf('\ufffd')
    const changed = Buffer.concat([unsigned.subarray(0, at), Buffer.from([0xff]), unsigned.subarray(at + 3)])
    expect((await walk([sealed, changed])).problem?.why).toContain('altered')
  })
})
