/** The verifier in Python reads exports of a real daemon with nothing but the format, and finds what was changed in them. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { findMoto } from '../peers/moto.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  startDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type DaemonHere,
  type TestIssuer,
} from '../support/daemon.ts'

const PACKAGE = join(import.meta.dirname, '../../sdk/python')
/** moto needs the package `cryptography` as well. */
const moto = findMoto()

describe.skipIf(moto === undefined)('the verifier of the audit log in Python', () => {
  let issuer: TestIssuer
  let daemon: DaemonHere
  let folder: string
  let lines: string[]
  let heads: string[]

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'deputy-export-'))
    issuer = await startTestIssuer()
    daemon = await startDaemonHere(
      aCompany({ issuer: issuer.url, notes: { downstreams: { ledger: { scopes: ['ledger:read'] } } } }),
      {
        audit: {
          checkpoint_every: 3,
          sinks: [{ name: 'archive', kind: 'segments', required: false, folder: 'state/archive', seal_after: '1ms' }],
        },
      },
    )
    const subject = await issuer.sign({ aud: RESOURCES.notes, org: 'acme', exp: Math.floor(Date.now() / 1000) + 600 })
    const mint = (): Promise<unknown> =>
      daemon.token({
        grant_type: TOKEN_EXCHANGE,
        subject_token: subject,
        subject_token_type: ACCESS_TOKEN,
        audience: 'ledger',
      })
    for (let count = 0; count < 9; count += 1) await mint()
    // The archive follows behind: each part of the log is a segment of its own.
    const archived = async (count: number): Promise<void> => {
      const folder = join(daemon.home, 'state/archive/local')
      const names = (): Promise<string[]> => readdir(folder).catch(() => [])
      await vi.waitUntil(async () => (await names()).length >= count, { timeout: 30_000, interval: 100 })
    }
    await archived(1)
    await daemon.stop()
    await daemon.start()
    for (let count = 0; count < 4; count += 1) await mint()
    await archived(2)
    const { code, out } = await daemon.deputy('audit', 'export')
    expect(code).toBe(0)
    lines = out.trimEnd().split('\n')
    const kept = join(daemon.home, 'state/keys/audit-heads')
    heads = (await readdir(kept)).flatMap((name) => ['--heads', join(kept, name)])
  })
  afterAll(async () => {
    await daemon?.close()
    await issuer?.close()
    await rm(folder, { recursive: true, force: true })
  })

  const verify = async (
    content: readonly string[],
    ...options: string[]
  ): Promise<{ code: number; stdout: string; stderr: string }> => {
    const path = join(folder, 'audit.jsonl')
    await writeFile(path, `${content.join('\n')}\n`)
    return new Promise((resolve) => {
      execFile(
        join(dirname(moto!), 'python3'),
        ['-B', '-m', 'deputy_client.verify_audit', path, ...options],
        { cwd: PACKAGE },
        (error, stdout, stderr) => {
          resolve({ code: typeof error?.code === 'number' ? error.code : 0, stdout, stderr })
        },
      )
    })
  }
  const at = (start: string, which: 'first' | 'last' = 'first'): number =>
    which === 'first'
      ? lines.findIndex((line) => line.startsWith(start))
      : lines.findLastIndex((line) => line.startsWith(start))

  it('promise 3: says that the export of a daemon holds, with and without the heads', async () => {
    const plain = await verify(lines)
    expect(plain.stdout).toMatch(/^local: \d+ records, \d+ signed checkpoints[^]*The chains hold/)
    expect(await verify(lines, ...heads)).toMatchObject({ code: 0 })
    const kid = / by the keys (\S+)\./.exec(plain.stdout)![1]!
    expect(await verify(lines, '--key', kid)).toMatchObject({ code: 0 })
    expect(await verify(lines, '--key', 'another')).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('which is not known') as string,
    })
  })

  it('promise 3: says that an archive of sealed segments holds, and names what is missing there', async () => {
    const archive = join(daemon.home, 'state/archive/local')
    const segments = await Promise.all(
      (await readdir(archive)).toSorted().map(async (name) => await readFile(join(archive, name), 'utf8')),
    )
    expect(segments.length).toBeGreaterThan(1)
    const withEnds = (of: readonly string[]): string[] => [
      lines[0]!,
      ...of.flatMap((text) => text.trimEnd().split('\n')),
      '{"end":{"chains":1}}',
    ]
    const whole = await verify(withEnds(segments))
    expect(whole.stdout).toMatch(/^local: \d+ records, \d+ signed checkpoints[^]*The chains hold/)
    expect(await verify(withEnds(segments.slice(1)))).toMatchObject({ code: 1 })
    const altered = segments.with(0, segments[0]!.replace('"outcome":"', '"outcome":"un'))
    expect(await verify(withEnds(altered))).toMatchObject({ code: 1 })
  })

  it('says that the example of the page holds', async () => {
    const example = await readFile(join(PACKAGE, '../../docs/audit-example.jsonl'), 'utf8')
    expect(await verify(example.trimEnd().split('\n'))).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('local: 3 records, 2 signed checkpoints') as string,
    })
  })

  it('promise 3: names the record where an export was changed', async () => {
    const record = at('{"hash"') + 1
    const checkpoint = at('{"checkpoint"')
    const last = at('{"hash"', 'last')
    const changed: readonly [string, string[], RegExp][] = [
      ['an altered record', lines.with(record, lines[record]!.replace('"outcome":"', '"outcome":"un')), /altered/],
      ['a removed record', lines.toSpliced(record, 1), /missing|does not stand behind/],
      [
        'moved records',
        lines.with(record, lines[record + 1]!).with(record + 1, lines[record]!),
        /altered|missing|stand/,
      ],
      ['a removed checkpoint', lines.toSpliced(checkpoint, 1), /a checkpoint before/],
      ['an altered checkpoint', lines.with(checkpoint, lines[checkpoint]!.replace(/"at":\d/, '"at":9')), /signature/],
      [
        'another installation',
        lines.map((line, n) => (n === 0 ? line.replace(/"installation":"./, '"installation":"_') : line)),
        /installation/,
      ],
    ]
    for (const [what, content, why] of changed) {
      const { code, stdout } = await verify(content)
      expect({ what, code, found: why.test(stdout), stdout }).toMatchObject({ what, code: 1, found: true })
    }
    const end = lines.slice(last)
    expect(end.at(-1)).toBe('{"end":{"chains":1}}')
    // Without its end an export shows a whole chain: the heads know better.
    const cut = [...lines.slice(0, at('{"hash"') + 5), lines.at(-1)!]
    expect(await verify(cut)).toMatchObject({ code: 0 })
    expect(await verify(cut, ...heads)).toMatchObject({
      code: 1,
      stdout: expect.stringContaining('was cut off') as string,
    })
    expect(await verify(lines.slice(0, -1))).toMatchObject({ code: 2 })
    // What cannot be read is not broken.
    expect(await verify(lines, '--heads', join(folder, 'nowhere.json'))).toMatchObject({ code: 2 })
  })

  it('promise 3: believes nothing that who holds the store could have written without a key', async () => {
    const [record, checkpoint, footer] = [at('{"hash"') + 1, at('{"checkpoint"', 'last'), at('{"footer"')]
    const end = lines.length - 1
    const first = JSON.parse(lines[0]!) as { export: { chains: string[] } }
    const named = (...chains: string[]): string[] => [
      JSON.stringify({ export: { ...first.export, chains } }),
      ...lines.slice(1, -1),
      JSON.stringify({ end: { chains: chains.length } }),
    ]
    const hashOf = (line: string): string => line.slice(9, 73)
    const last = lines.findLastIndex((line) => line.startsWith('{"hash"'))
    const seqOf = (line: string): number => Number(/"seq":(\d+)/.exec(line)![1])
    const claim = (gone: object): string => {
      const text = `{"seq":${seqOf(lines[last]!) + 1},"prev":"${hashOf(lines[last]!)}","event":"store.lost","detail":{"records":{"gone":${JSON.stringify(gone)}}}}`
      return `{"hash":"${createHash('sha256').update(text).digest('hex')}","record":${text}}`
    }
    const gone = {
      from: seqOf(lines[record]!),
      to: seqOf(lines[record]!),
      after: hashOf(lines[record - 1]!),
      before: hashOf(lines[record]!),
    }
    const kept = JSON.parse(await readFile(heads[1]!, 'utf8')) as { heads: { hash: string }[] }
    const both = join(folder, 'both.json')
    const replaced = kept.heads.map((head) => ({ ...head, hash: hashOf(lines[record]!) }))
    await writeFile(both, JSON.stringify({ heads: [...replaced, ...kept.heads], missing: kept.heads }))
    const open = lines.slice(lines.findLastIndex((line) => line.startsWith('{"segment"')) + 1, end)
    const plain = open.filter((line) => line.startsWith('{"hash"'))
    const changed: readonly [string, string[], string[], RegExp][] = [
      ['a gap of a chain that is not named', named().toSpliced(record, 1), [], /missing|stand/],
      ['a chain without lines', named('local', 'other'), [], /other: its chain is not there/],
      [
        'a claim that is not signed',
        lines.toSpliced(end, 0, claim(gone)).toSpliced(record, 1),
        [],
        /no signed record|stand/,
      ],
      ['a removed footer', footer === -1 ? [] : lines.toSpliced(footer, 1), [], /has no footer/],
      [
        'removed checkpoints',
        lines.slice(0, -open.length - 1).concat(plain, lines.at(-1)!),
        heads,
        /checkpoints end with/,
      ],
      ['two heads of one record', lines, ['--heads', both], /another record/],
    ]
    for (const [what, content, options, why] of changed.filter((each) => each[1].length > 0)) {
      const { code, stdout, stderr } = await verify(content, ...options)
      expect({ what, code, found: why.test(stdout), stdout, stderr }).toMatchObject({ what, code: 1, found: true })
    }
    expect(checkpoint).toBeGreaterThan(0)
    // The number of chains at the end is that of the beginning.
    expect(await verify([...lines.slice(0, -1), '{"end":{"chains":2}}'])).toMatchObject({ code: 2 })
    // What no checkpoint signs yet is said.
    expect((await verify(lines.toSpliced(end, 0, claim(gone)))).stdout).toContain('no checkpoint signs records')
  })
})
