import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { HeadKeeper } from '../../src/foundation/audit/heads/head-keeper.ts'
import type { AuditCheckpoint, AuditRow, AuditStore } from '../../src/foundation/store/records/audit.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { aFolder, aLog, append, check, INSTALLATION, signed } from '../support/audit.ts'

/** A store whose owner changes what it holds. */
const aTable = (node = 'local') => {
  const table = { rows: [] as AuditRow[], checkpoints: [] as AuditCheckpoint[] }
  const store: AuditStore = {
    node,
    joinsWrites: false,
    apply: () => Promise.resolve(),
    append: (rows) => {
      table.rows.push(...rows)
      return Promise.resolve()
    },
    head: () => Promise.resolve(table.rows.at(-1)),
    chains: () => Promise.resolve(table.rows.length > 0 ? [node] : []),
    query: ({ afterSeq = 0 }, { limit }) =>
      Promise.resolve(table.rows.filter(({ seq }) => seq > afterSeq).slice(0, limit)),
    addCheckpoint: (checkpoint) => {
      table.checkpoints.push(checkpoint)
      return Promise.resolve()
    },
    lastCheckpoint: () => Promise.resolve(table.checkpoints.at(-1)),
    lastCheckpoints: () => Promise.resolve(table.checkpoints.slice(-1).map((checkpoint) => ({ node, ...checkpoint }))),
    checkpoints: (_of, { afterSeq, limit } = { afterSeq: 0, limit: Infinity }) =>
      Promise.resolve(table.checkpoints.filter(({ seq }) => seq > afterSeq).slice(0, limit)),
  }
  return { table, store }
}

const keeperOf = (folder: string, store: AuditStore, node = store.node): Promise<HeadKeeper> =>
  HeadKeeper.open({
    folder,
    chain: { installation: INSTALLATION, node },
    store,
    verifySignature: signed,
    logger: silentLogger,
  })

/** A chain of 25 records with checkpoints at 10, 20 and 25, whose heads are kept in a folder. */
const aKeptChain = async () => {
  const { table, store } = aTable()
  const folder = join(await aFolder(), 'audit-heads')
  const keeper = await keeperOf(folder, store)
  const log = await aLog(store, { signed: (checkpoint) => void keeper.note(checkpoint) })
  for (let batch = 0; batch < 5; batch += 1) await append(log, 5)
  await log.close()
  await keeper.close()
  return { table, store, folder, keeper, honest: { rows: [...table.rows], checkpoints: [...table.checkpoints] } }
}

const ATTACKS = {
  'removes the last record': ({ rows, checkpoints }) => ({
    rows: rows.slice(0, -1),
    checkpoints: checkpoints.slice(0, -1),
  }),
  'cuts to a checkpoint': ({ rows, checkpoints }) => ({
    rows: rows.slice(0, 20),
    checkpoints: checkpoints.slice(0, -1),
  }),
  'deletes the last checkpoint': ({ rows, checkpoints }) => ({ rows, checkpoints: checkpoints.slice(0, -1) }),
  'deletes all checkpoints': ({ rows }) => ({ rows, checkpoints: [] }),
  'deletes a checkpoint in the middle': ({ rows, checkpoints }) => ({ rows, checkpoints: checkpoints.toSpliced(1, 1) }),
  'deletes everything': () => ({ rows: [], checkpoints: [] }),
} satisfies Record<string, (table: ReturnType<typeof aTable>['table']) => ReturnType<typeof aTable>['table']>

describe('heads that are kept outside of the store', () => {
  for (const [attack, change] of Object.entries(ATTACKS))
    it(`promise 3: the owner of the store ${attack}, and it is found`, async () => {
      const { table, store, keeper } = await aKeptChain()
      expect(await check(store, { heads: await keeper.known() })).toMatchObject({ ok: true, records: 25 })
      Object.assign(table, change(table))
      const found = await check(store, { heads: await keeper.known() })
      expect(found.ok).toBe(false)
      expect(found.problem?.why).toMatch(/removed|missing/)
    })

  it('promise 3: finds an end that was written anew, and an older copy that went on', async () => {
    const { table, store, folder, keeper, honest } = await aKeptChain()
    table.rows = honest.rows.slice(0, 20)
    table.checkpoints = honest.checkpoints.slice(0, 2)
    // A daemon that knows nothing of the end signs what follows.
    const log = await aLog(store)
    await append(log, 10)
    await log.close()
    expect(await check(store)).toMatchObject({ ok: true, records: 30 })
    expect(await check(store, { heads: await keeper.known() })).toMatchObject({
      ok: false,
      problem: { seq: 25, why: expect.stringContaining('knows another record 25') as string },
    })
    // A start finds it as well, and what follows does not hide it.
    const again = await keeperOf(folder, store)
    expect(again.problem).toContain('record 25')
    await again.note(table.checkpoints.at(-1)!)
    expect((await keeperOf(folder, store)).missing).toHaveLength(1)
    expect((await check(store, { heads: await again.known() })).ok).toBe(false)
    await again.acknowledge(again.missing)
    expect(again.problem).toBeUndefined()
    expect((await keeperOf(folder, store)).missing).toEqual([])
    expect(await check(store, { heads: await again.known() })).toMatchObject({ ok: true, records: 30 })
  })

  it('promise 3: a search that shows a record which is gone does not hide that at a start', async () => {
    const { table, store, folder, honest } = await aKeptChain()
    table.rows = honest.rows.slice(0, 20)
    table.checkpoints = honest.checkpoints.slice(0, 2)
    const query: AuditStore['query'] = ({ afterSeq = 0 }, { limit }) =>
      Promise.resolve(honest.rows.slice(afterSeq, afterSeq + limit))
    expect((await keeperOf(folder, { ...store, query })).missing).toMatchObject([{ seq: 25, number: 3 }])
  })

  it('promise 3: finds a chain that begins anew in an emptied store', async () => {
    const { table, store, keeper } = await aKeptChain()
    Object.assign(table, { rows: [], checkpoints: [] })
    const log = await aLog(store, { installation: 'made anew' })
    await append(log, 30)
    await log.close()
    expect(await check(store, { installation: 'made anew', heads: await keeper.known() })).toMatchObject({
      ok: false,
      problem: { why: expect.stringContaining('emptied or replaced') as string },
    })
  })

  it('promise 3: another node is a witness, and keeps the head that was replaced', async () => {
    const { table, store, honest } = await aKeptChain()
    const folder = join(await aFolder(), 'audit-heads')
    const witness = await keeperOf(folder, store, 'other')
    await witness.look()
    expect(await witness.known()).toMatchObject([{ node: 'local', seq: 25, number: 3 }])
    table.rows = honest.rows.slice(0, 20)
    table.checkpoints = honest.checkpoints.slice(0, 2)
    expect((await check(store, { heads: await witness.known() })).problem?.why).toContain('knows record 25')
    // It knows better than what it is shown, and keeps both where the chain has become longer again.
    await witness.look()
    expect(witness.missing).toEqual([])
    const log = await aLog(store)
    await append(log, 40)
    await log.close()
    await witness.look()
    expect(witness.missing).toMatchObject([{ seq: 25 }])
    expect((await check(store, { heads: await witness.known() })).problem).toMatchObject({ seq: 25 })
    // A checkpoint without the key is no head.
    table.checkpoints.push({ ...table.checkpoints.at(-1)!, number: 99 })
    await witness.look()
    expect((await witness.known()).some(({ number }) => number === 99)).toBe(false)
  })

  it('does not begin on a file that holds something else, and says so of one that it cannot write', async () => {
    const { store, folder, keeper, honest } = await aKeptChain()
    const path = join(folder, 'local.json')
    const whole = await readFile(path, 'utf8')
    await writeFile(path, whole.slice(0, -20))
    await expect(keeperOf(folder, store)).rejects.toMatchObject({
      code: 'config_invalid',
      facts: { problem: expect.stringContaining('local.json') as string },
    })
    expect(whole).not.toContain('"missing": [\n')
    await keeper.note({ ...honest.checkpoints[2]!, number: 4 })
    expect(await readFile(path, 'utf8')).toContain('"number": 4')
  })
})
