import { setTimeout as after } from 'node:timers/promises'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { AuditStore } from '../../src/foundation/store/records/audit.ts'
import { aLog, append, aRecord, aSink, aStore, check, signer, told } from '../support/audit.ts'

describe('the audit log', () => {
  it('chains concurrent records, signs checkpoints and goes on after a restart', async () => {
    const store = await aStore()
    const first = await aLog(store)
    await append(first, 25)
    await first.close()
    const second = await aLog(store)
    await append(second, 5)
    await second.close()
    expect(await check(store)).toMatchObject({ ok: true, records: 30 })
    expect((await store.checkpoints()).at(-1)?.seq).toBe(30)
  })

  it('promise 3: makes what a record allows after the last sink has it, and not at all without the record', async () => {
    const made: string[] = []
    const write = (name: string) => ({ statements: [{ sql: name, parameters: [] }] })
    const real = await aStore()
    const store = (appends: boolean): AuditStore => ({
      ...real,
      append: async (rows, after, writes = []) => {
        if (!appends) throw new Error('the disk is full')
        await real.append(rows, after)
        made.push(...writes.flatMap(({ statements }) => statements.map(({ sql }) => `joined ${sql}`)))
      },
      apply: (writes) => {
        made.push(...writes.flatMap(({ statements }) => statements.map(({ sql }) => `after ${sql}`)))
        return Promise.resolve()
      },
    })
    const refusing = aSink(() => Promise.reject(new Error('it is full')))
    const cases = [
      { log: await aLog(store(true)), writes: ['joined use'] },
      { log: await aLog(store(false)), writes: [] },
      { log: await aLog(store(true), { sinks: [refusing] }), writes: [] },
      { log: await aLog(store(true), { sinks: [aSink(() => Promise.resolve())] }), writes: ['after use'] },
      { log: await aLog({ ...store(true), joinsWrites: false }), writes: ['after use'] },
    ]
    for (const { log, writes } of cases) {
      made.length = 0
      await log.append(aRecord('a'), [write('use')]).catch(() => undefined)
      expect(made).toEqual(writes)
      await log.close()
    }
  })

  it('threat 29: a blocked sink refuses within the deadline, and the log recovers with it', async () => {
    const store = await aStore()
    const got: number[] = []
    const gate = Promise.withResolvers<void>()
    const log = await aLog(store, {
      deadline: 1000,
      sinks: [
        aSink(async (rows) => {
          await gate.promise
          got.push(...rows.map(({ seq }) => seq))
        }),
      ],
    })
    const began = performance.now()
    await expect(log.append(aRecord('a'))).rejects.toMatchObject({
      code: 'audit_unavailable',
      facts: { sink: 'other' },
    })
    await expect(log.append(aRecord('b'))).rejects.toMatchObject({ code: 'audit_unavailable' })
    expect(performance.now() - began).toBeLessThan(6000)
    expect(log.status()).toMatchObject([
      { name: 'store', ok: true },
      { name: 'other', ok: false },
    ])
    gate.resolve()
    await expect.poll(() => log.status().every(({ ok }) => ok)).toBe(true)
    await log.append(aRecord('c'))
    expect([...new Set(got)].slice(0, 3)).toEqual([1, 2, 3])
    expect(log.status().every(({ ok }) => ok)).toBe(true)
    await log.close()
    expect((await told(store)).toSorted()).toEqual([
      'a audit.unconfirmed',
      'a token.exchange',
      'b audit.unconfirmed',
      'b token.exchange',
      'c token.exchange',
    ])
    expect(await check(store)).toMatchObject({ ok: true, records: 5 })
  })

  it('threat 29: a store write that lands after its deadline does not fork the chain', async () => {
    const store = await aStore()
    const gate = Promise.withResolvers<void>()
    const landed = Promise.withResolvers<void>()
    let slow = true
    const log = await aLog(
      {
        ...store,
        append: async (rows) => {
          if (slow) await gate.promise
          await store.append(rows)
          landed.resolve()
        },
      },
      { deadline: 2500 },
    )
    await expect(log.append(aRecord('late'))).rejects.toMatchObject({
      code: 'audit_unavailable',
      facts: { sink: 'store' },
    })
    slow = false
    gate.resolve()
    await landed.promise
    await after(50)
    await log.append(aRecord('next'))
    await log.close()
    expect(await told(store)).toEqual(['late token.exchange', 'next token.exchange', 'late audit.unconfirmed'])
    expect(await check(store)).toMatchObject({ ok: true, records: 3 })
  })

  it('threat 29: a full store refuses, and the chain goes on when there is room', async () => {
    const store = await aStore()
    let full = true
    const log = await aLog({
      ...store,
      append: (rows) => (full ? Promise.reject(new Error('database or disk is full')) : store.append(rows)),
    })
    await expect(log.append(aRecord('a'))).rejects.toMatchObject({ code: 'audit_unavailable' })
    full = false
    await log.append(aRecord('b'))
    await log.close()
    expect(await check(store)).toMatchObject({ ok: true, records: 1 })
  })

  it('threat 29: is well again without a request once its sink is, and that sink has no gap', async () => {
    const store = await aStore()
    const got: number[] = []
    let broken = true
    const log = await aLog(store, {
      deadline: 1000,
      sinks: [
        aSink(async (rows) => {
          if (broken) throw new Error('it is broken')
          got.push(...rows.map(({ seq }) => seq))
        }),
      ],
    })
    await expect(log.append(aRecord('a'))).rejects.toMatchObject({
      code: 'audit_unavailable',
      facts: { sink: 'other', problem: 'it is broken' },
    })
    broken = false
    await expect.poll(() => log.status().every(({ ok }) => ok)).toBe(true)
    await log.close()
    expect(await told(store)).toEqual(['a token.exchange', 'a audit.unconfirmed'])
    expect(got).toEqual([1, 2])
  })

  it('threat 29: is well again without a request once its store is', async () => {
    const store = await aStore()
    let full = false
    const unlessFull = <T>(work: () => Promise<T>): Promise<T> =>
      full ? Promise.reject(new Error('database or disk is full')) : work()
    const log = await aLog(
      {
        ...store,
        append: (rows) => unlessFull(() => store.append(rows)),
        addCheckpoint: (checkpoint) => unlessFull(() => store.addCheckpoint(checkpoint)),
      },
      { deadline: 1000 },
    )
    await log.append(aRecord('a'))
    full = true
    await expect(log.append(aRecord('b'))).rejects.toMatchObject({
      code: 'audit_unavailable',
      facts: { sink: 'store' },
    })
    await after(200)
    expect(log.status()[0]).toMatchObject({ name: 'store', ok: false })
    full = false
    await expect.poll(() => log.status().every(({ ok }) => ok)).toBe(true)
    await log.close()
    expect(await check(store)).toMatchObject({ ok: true, records: 1 })
  })

  it('threat 29: of thousands that wait for a store that hangs each is refused in bounded time', async () => {
    const store = await aStore()
    const gate = Promise.withResolvers<void>()
    const log = await aLog(
      {
        ...store,
        append: async (rows) => {
          await gate.promise
          await store.append(rows)
        },
      },
      { deadline: 300 },
    )
    const began = performance.now()
    const results = await Promise.allSettled(
      Array.from({ length: 5000 }, (_, index) => log.append(aRecord(`r${index}`))),
    )
    expect(performance.now() - began).toBeLessThan(6000)
    expect(results.every(({ status }) => status === 'rejected')).toBe(true)
    gate.resolve()
    await log.close()
    expect((await check(store)).ok).toBe(true)
  })

  it('threat 29: a record that only slow sinks keep waiting is refused in time, and later the log says so', async () => {
    const store = await aStore()
    // Each step is well within its deadline, also on a busy machine; the two of one record and those of the next together are not.
    const slow = async (): Promise<void> => {
      await after(400)
    }
    const log = await aLog(
      {
        ...store,
        append: async (rows) => {
          await slow()
          await store.append(rows)
        },
      },
      { deadline: 700, sinks: [aSink(slow)] },
    )
    const first = log.append(aRecord('first'))
    await after(20)
    const began = performance.now()
    await expect(log.append(aRecord('second'))).rejects.toMatchObject({ code: 'audit_unavailable' })
    expect(performance.now() - began).toBeLessThan(2000)
    await first
    await log.close()
    expect(await told(store)).toEqual(['first token.exchange', 'second token.exchange', 'second audit.unconfirmed'])
    expect((await check(store)).ok).toBe(true)
  })

  it('refuses a record that is no JSON and lets those beside it through', async () => {
    const store = await aStore()
    const log = await aLog(store)
    const [good, bad] = await Promise.allSettled([
      log.append(aRecord('good')),
      log.append(aRecord('bad', { detail: { count: 1n } })),
    ])
    await log.close()
    expect(good.status).toBe('fulfilled')
    expect(bad).toMatchObject({ status: 'rejected', reason: { code: 'internal' } })
    expect(await check(store)).toMatchObject({ ok: true, records: 1 })
  })

  it('keeps a chain that holds whatever text its records are made of', async () => {
    const store = await aStore()
    const log = await aLog(store)
    await fc.assert(
      fc.asyncProperty(
        fc.string({ unit: 'binary' }),
        fc.jsonValue(),
        fc.constantFrom('', '\uD800', '\u0000', '\uDC00x'),
        async (text, value, odd) => {
          await log.append({
            id: text + odd,
            event: 'login',
            outcome: 'done',
            tenant: odd + text,
            user: text,
            server: odd,
            downstream: '',
            detail: { [text + odd]: value, odd },
          })
        },
      ),
      { numRuns: 60 },
    )
    await log.close()
    expect(await check(store)).toMatchObject({ ok: true, records: 60 })
  })

  it('refuses no record when a checkpoint cannot be signed, shows it, and signs later', async () => {
    const store = await aStore()
    let locked = true
    const log = await aLog(store, {
      deadline: 50,
      checkpointEvery: 1,
      sign: (bytes) => {
        if (locked) throw new Error('no signing key')
        return signer(bytes)
      },
    })
    await log.append(aRecord('a'))
    await expect
      .poll(() => log.status())
      .toMatchObject([
        { name: 'store', ok: true },
        { name: 'checkpoint', ok: false, problem: 'no signing key' },
      ])
    locked = false
    await expect.poll(() => log.status()).toMatchObject([{ name: 'store', ok: true }])
    expect(await store.checkpoints()).toMatchObject([{ seq: 1 }])
    await log.close()
  })

  it('takes nothing once it is closed', async () => {
    const log = await aLog(await aStore())
    await log.close()
    await expect(log.append(aRecord('a'))).rejects.toMatchObject({ code: 'audit_unavailable' })
  })
})
