import { createPublicKey } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { columnsOf, emptyChain, hashOf, link, linkText, unlinkedText } from '../../src/foundation/audit/format/chain.ts'
import { checkpointBytes } from '../../src/foundation/audit/format/checkpoint.ts'
import { ChainWalk, type Walked } from '../../src/foundation/audit/verify/walk.ts'
import { verifyEs256 } from '../../src/foundation/crypto/es256.ts'
import {
  checkpointLine,
  footerBytes,
  footerLine,
  headerLine,
  headerOf,
  readLine,
  recordLine,
} from '../../src/foundation/audit/format/segment.ts'

const chain = { installation: 'x9Qd', node: 'local' }
const entry = {
  record: { id: 'r1', event: 'token.exchange', outcome: 'issued', tenant: 'acme' },
  detail: '{"asked":{"scopes":["read"]}}',
  at: 1_796_000_000_000,
} as const

const exportSchema = z.object({
  export: z.object({ installation: z.string(), keys: z.tuple([z.looseObject({ kty: z.string(), kid: z.string() })]) }),
})

/** Walks along an export with one chain. */
const walkExport = (text: string): Walked => {
  const [first, ...lines] = text.trimEnd().split('\n')
  const { installation, keys } = exportSchema.parse(JSON.parse(first!)).export
  const publicKey = createPublicKey({ key: keys[0], format: 'jwk' })
  const walk = new ChainWalk({
    chain: { installation, node: 'local' },
    verifySignature: (kid, bytes, signature) => kid === keys[0].kid && verifyEs256(publicKey, bytes, signature),
  })
  let segment = ''
  for (const line of lines.slice(0, -1)) {
    const read = readLine(line)!
    if (read.kind === 'header') segment = ''
    if (read.kind === 'footer')
      walk.addFooter(read.footer, { bytes: Buffer.byteLength(segment), digest: hashOf(segment) })
    else walk.add(read)
    segment += `${line}\n`
  }
  return walk.finish()
}

describe('the format of the audit log', () => {
  it('holds for the example of its page, and for no other byte of it', async () => {
    const text = await readFile(join(import.meta.dirname, '../../docs/audit-example.jsonl'), 'utf8')
    const whole = walkExport(text)
    expect(whole).toMatchObject({ records: 3, checkpoints: 2 })
    expect(whole.problem).toBeUndefined()
    // When the open segment was begun is signed with its footer.
    const open = text.indexOf('"at":', text.lastIndexOf('{"segment"'))
    const from = text.indexOf('\n') + 1
    fc.assert(
      fc.property(fc.integer({ min: from, max: text.lastIndexOf('{"end"') - 2 }), (at) => {
        fc.pre(at < open || at > open + '"at":1795780800000'.length)
        const changed = text[at] === '0' ? '1' : '0'
        let walked: Walked
        try {
          walked = walkExport(text.slice(0, at) + changed + text.slice(at + 1))
        } catch {
          return
        }
        expect(walked.problem).toBeDefined()
      }),
    )
  })

  it('has the bytes that its page says', () => {
    const genesis = emptyChain(chain)
    expect(genesis).toEqual({ seq: 0, hash: hashOf('deputy audit genesis\n1\nx9Qd\nlocal\n') })
    const row = link(genesis, entry)
    expect(row.body).toBe(
      `{"seq":1,"prev":"${genesis.hash}","id":"r1","at":1796000000000,"event":"token.exchange","outcome":"issued","tenant":"acme","user":null,"server":null,"downstream":null,"detail":{"asked":{"scopes":["read"]}}}`,
    )
    expect(row.hash).toBe(hashOf(row.body))
    expect(Buffer.from(checkpointBytes(chain, { number: 7, seq: 1, hash: 'h', at: 5 })).toString()).toBe(
      'deputy audit checkpoint\n1\nx9Qd\nlocal\n7\n1\nh\n5\n',
    )
    expect(Buffer.from(checkpointBytes(chain, { number: null, seq: 1, hash: 'h', at: 5 })).toString()).toBe(
      '["deputy audit checkpoint",1,"h",5]',
    )
  })

  it('links on another thread what this one would link', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), fc.json(), (id, user, value) => {
        const detail = `{"value":${JSON.stringify(JSON.parse(value))}}`
        const given = { record: { ...entry.record, id, user }, detail, at: 3 }
        const head = { seq: 41, hash: hashOf('41') }
        const columns = columnsOf(given)
        const row = link(head, given)
        expect(linkText(head, unlinkedText(columns, detail))).toEqual({ seq: 42, hash: row.hash, body: row.body })
        // The columns that a search goes by say what the text says.
        expect(JSON.parse(row.body)).toMatchObject(columns)
        expect(readLine(recordLine(row).slice(0, -1))).toEqual({ kind: 'record', hash: row.hash, body: row.body })
      }),
    )
  })

  it('reads every kind of line back, and nothing else', () => {
    const hash = hashOf('a record')
    const header = headerOf(chain, { number: 1, first: 1, after: emptyChain(chain).hash, at: 1 })
    const checkpoint = { number: 1, seq: 1, hash, at: 2, kid: 'k', signature: 's' }
    const sealed = { ...header, last: 1, head: hash, from: 1, to: 1, bytes: 9, digest: hash, sealed: 3 }
    const footer = { ...sealed, kid: 'k', signature: 's' }
    expect(readLine(headerLine(header).trimEnd())).toEqual({ kind: 'header', header })
    expect(readLine(checkpointLine(checkpoint).trimEnd())).toEqual({ kind: 'checkpoint', checkpoint })
    expect(readLine(footerLine(footer).trimEnd())).toEqual({ kind: 'footer', footer })
    expect(Buffer.from(footerBytes(sealed)).toString()).toBe(
      `deputy audit segment\n1\nx9Qd\nlocal\n1\n1\n${header.after}\n1\n1\n${hash}\n1\n1\n9\n${hash}\n3\n`,
    )
    for (const line of [
      '',
      '{',
      '{}',
      '{"hash":"',
      '{"hash":"abc","record":{}}',
      '{"segment":{"format":2}}',
      '{"footer":{}}',
    ])
      expect(readLine(line)).toBeUndefined()
    fc.assert(fc.property(fc.string(), (text) => void readLine(text)))
  })

  it('reads no line that lacks a field, has another, or has one that is wrong', () => {
    const hash = hashOf('a record')
    const header = headerOf(chain, { number: 1, first: 1, after: hash, at: 1 })
    const checkpoint = { number: 1, seq: 1, hash, at: 2, kid: 'k', signature: 's' }
    const footer = { last: 1, head: hash, from: 1, to: 1, bytes: 9, digest: hash, sealed: 3, kid: 'k', signature: 's' }
    const lines: Record<string, Record<string, unknown>> = {
      segment: { ...header },
      checkpoint,
      footer: { ...header, ...footer },
    }
    const isRead = (line: object): boolean => readLine(JSON.stringify(line)) !== undefined
    for (const [kind, fields] of Object.entries(lines)) {
      expect([kind, isRead({ [kind]: fields })]).toEqual([kind, true])
      const others = [{ [kind]: fields, more: 1 }, { [kind]: { ...fields, more: 1 } }, { [kind]: [fields] }, [fields]]
      expect(others.filter(isRead)).toEqual([])
      for (const [name, value] of Object.entries(fields)) {
        const { [name]: _, ...rest } = fields
        const wrong: unknown[] =
          typeof value === 'number'
            ? [-1, 1.5, 2 ** 53, '1', true, [1], ...(name === 'number' && kind === 'checkpoint' ? [] : [null])]
            : [1, null, [value], {}, ...(value === hash ? ['', hash.slice(1), hash.toUpperCase(), `${hash}\n`] : [])]
        for (const given of [rest, { ...rest, toString: value }, ...wrong.map((each) => ({ ...rest, [name]: each }))])
          expect([kind, name, given, isRead({ [kind]: given })]).toEqual([kind, name, given, false])
      }
    }
    expect(isRead({ checkpoint: { ...checkpoint, number: null } })).toBe(true)
    for (const number of [0, -0]) expect(isRead({ segment: { ...header, number } })).toBe(false)
    expect(readLine(`{"checkpoint":{"__proto__":1,${JSON.stringify(checkpoint).slice(1)}}`)).toBeUndefined()
  })
})
