/**
 * `npm run bench:audit -- [records] [--migrate]`: what a large audit log of the embedded store costs at the start, in searches and in a proof.
 * With `--migrate`, the records are first in the tables of the version before, and are moved.
 */
import { generateKeyPairSync, sign, verify } from 'node:crypto'
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { emptyChain, link } from '../src/foundation/audit/format/chain.ts'
import { footerBytes } from '../src/foundation/audit/format/segment.ts'
import { openSegmentAudit, type SegmentAudit } from '../src/foundation/audit/segments/segment-store.ts'
import { diskFiles } from '../src/foundation/audit/segments/file-operations.ts'
import { SegmentWriter } from '../src/foundation/audit/segments/writer.ts'
import { verifyChains } from '../src/foundation/audit/verify/verify.ts'
import { walkStore } from '../src/foundation/audit/verify/thread.ts'
import { openSqliteStore } from '../src/foundation/store/sqlite/open.ts'

const records = Number(process.argv.slice(2).find((word) => /^\d+$/.test(word)) ?? 1_000_000)
const migrates = process.argv.includes('--migrate')
const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const signed = (bytes: Uint8Array) => ({
  kid: 'k',
  signature: sign('sha256', bytes, { key: privateKey, dsaEncoding: 'ieee-p1363' as const }),
})
const chain = { installation: 'bench', node: 'local' }
const rules = { size: 67_108_864, age: 86_400_000 }
const folder = await mkdtemp(join(tmpdir(), 'deputy-audit-bench-'))
const idOf = (at: number): string => `01m8${String(at).padStart(22, '0')}`
const columnsOf = (at: number) => ({
  id: idOf(at),
  at: 1_796_000_000_000 + at * 10,
  event: at % 1000 === 7 ? 'revocation' : 'token.exchange',
  outcome: at % 50 === 3 ? 'refused' : 'issued',
  tenant: `tenant-${at % 20}`,
  user: `user-${(at * 7919) % 5000}`,
  server: `server-${at % 12}`,
  downstream: 'ledger',
})
const DETAIL = JSON.stringify({ asked: { scopes: ['ledger:read'], tool: 'search' }, story: 'y'.repeat(800) })

const timed = async <T>(what: string, work: () => Promise<T>, times = 1): Promise<T> => {
  const all: number[] = []
  let result: T
  for (let time = 0; time < times; time += 1) {
    const began = performance.now()
    result = await work()
    all.push(performance.now() - began)
  }
  all.sort((a, b) => a - b)
  process.stdout.write(
    `${what.padEnd(48)} ${all[Math.floor(all.length / 2)]!.toFixed(2)} ms${times === 1 ? '' : ` p50, ${all.at(-1)!.toFixed(2)} ms at most`}\n`,
  )
  return result!
}
const sizeOf = async (path: string): Promise<number> =>
  (await Promise.all((await readdir(path)).map(async (name) => (await stat(join(path, name))).size))).reduce(
    (a, b) => a + b,
    0,
  )

const fillSegments = (): void => {
  const writer = SegmentWriter.open({ files: diskFiles, folder: join(folder, 'audit'), chain, rules })
  for (let at = 0; at < records; at += 2000) {
    let text = ''
    const last = Math.min(records, at + 2000)
    for (let each = at; each < last; each += 1)
      text += `${JSON.stringify(columnsOf(each)).slice(1, -1)},"detail":${DETAIL}}\n`
    writer.append({ text, from: columnsOf(at).at, to: columnsOf(last - 1).at })
    const footer = writer.isDue(0) ? writer.unsignedFooter(1) : undefined
    if (footer !== undefined) {
      const { kid, signature } = signed(footerBytes(footer))
      writer.seal({ ...footer, kid, signature: signature.toString('base64url') })
    }
  }
  writer.close()
}

const fillTables = async (): Promise<void> => {
  const store = await openSqliteStore({ path: join(folder, 'deputy.db'), deadline: 60_000 })
  let head = emptyChain(chain)
  for (let at = 0; at < records; at += 2000) {
    const rows = Array.from({ length: Math.min(2000, records - at) }, (_, each) => {
      const { id, at: time, event, outcome, tenant, user, server, downstream } = columnsOf(at + each)
      const record = { id, event, outcome, tenant, user, server, downstream } as Parameters<typeof link>[1]['record']
      const row = link(head, { record, detail: DETAIL, at: time })
      head = row
      return row
    })
    await store.audit.append(rows)
  }
  await store.close()
}

const open = async (path: string): Promise<SegmentAudit & { closeAll(): Promise<void> }> => {
  const database = await openSqliteStore({ path: join(path, 'deputy.db'), deadline: 60_000 })
  const logger = pino({ level: 'error' })
  const audit = await openSegmentAudit({
    folder: join(path, 'audit'),
    chain,
    rules,
    tables: database.audit,
    sign: signed,
    logger,
  })
  return {
    ...audit,
    async closeAll() {
      await audit.close()
      await database.close()
    },
  }
}

await timed(`writing ${records} records${migrates ? ' into tables' : ''}`, async () =>
  migrates ? fillTables() : fillSegments(),
)
if (migrates) {
  let peak = 0
  const watch = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage().rss)
  }, 100)
  const before = process.memoryUsage().rss
  const audit = await timed('start that moves them into segments', () => open(folder))
  clearInterval(watch)
  process.stdout.write(`memory ${Math.round(before / 1e6)} MB before, ${Math.round(peak / 1e6)} MB at most\n`)
  await timed('and the tables are empty', () => audit.closeAll())
}
const empty = await mkdtemp(join(tmpdir(), 'deputy-audit-bench-'))
await (await open(empty)).closeAll()
for (const [what, path] of [
  ['start of an empty log', empty],
  ['start of this log', folder],
] as const)
  await timed(what, async () => (await open(path)).closeAll(), 5)
const audit = await open(folder)
const { store } = audit
await timed('index made anew, up to the first answer', () => store.query({ id: idOf(1) }, { limit: 1 }))
await audit.closeAll()
const again = await open(folder)
await timed('first query by id after a start', () => again.store.query({ id: idOf(2) }, { limit: 1 }))
let next = 0
const some = (): number => Math.floor((((next++ * 104_729) % 1000) / 1000) * records)
const one = async (): Promise<void> => {
  const id = idOf(some())
  const rows = await again.store.query({ id, node: '*' }, { limit: 1000 })
  if (rows.length !== 1) throw new Error(`${id} was found ${rows.length} times`)
}
await timed('query by id', one, 200)
await timed(
  'last 100 refused',
  () => again.store.query({ node: '*', outcome: 'refused' }, { limit: 100, last: true }),
  20,
)
await timed('last 100 of a user', () => again.store.query({ user: 'user-77' }, { limit: 100, last: true }), 20)
await timed('10,000 revocations from the start', () => again.store.query({ event: 'revocation' }, { limit: 10_000 }), 3)
await timed('last record by time', () => again.store.query({ node: '*' }, { limit: 1, last: true }), 20)
const proof = await timed('proof', () =>
  verifyChains(
    again.store,
    {
      installation: 'bench',
      verifySignature: (_, bytes, signature) =>
        verify('sha256', bytes, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature),
      isProved: () => false,
    },
    walkStore(again.store, [{ kid: 'k', jwk: publicKey.export({ format: 'jwk' }) }]),
  ),
)
process.stdout.write(`holds: ${proof.ok} ${proof.problem?.why ?? ''}, ${proof.records} records\n`)
await again.closeAll()
const indexBytes = (await stat(join(folder, 'audit/index.db'))).size
process.stdout.write(
  `bytes a record: ${Math.round(((await sizeOf(join(folder, 'audit'))) - indexBytes) / records)} in segments, ${Math.round(indexBytes / records)} in the index\n`,
)
await Promise.all([folder, empty].map((path) => rm(path, { recursive: true, force: true })))
