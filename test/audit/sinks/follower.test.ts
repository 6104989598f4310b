import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { Pacing } from '../../../src/foundation/audit/sinks/pacing.ts'
import { PositionedSink } from '../../../src/foundation/audit/sinks/positioned-sink.ts'
import { DeliveryError, type Delivery } from '../../../src/foundation/audit/sinks/delivery.ts'
import type { AuditRow } from '../../../src/foundation/store/records/audit.ts'
import { openSqliteStore } from '../../../src/foundation/store/sqlite/open.ts'
import { silentLogger } from '../../../src/foundation/telemetry/logger.ts'
import { aFolder, aLog, append, aRecord, aWholeStore, upTo } from '../../support/audit.ts'
import { aChain, aDelivery, aFollower, anHttpServer, aPosition, quickly } from '../../support/audit-sinks.ts'

const hundred = aChain(100)

/** Keeps the numbers of what it gets, and does as `isUp` says. */
const keeping = (isUp: () => boolean = () => true, over: Partial<Delivery> = {}) => {
  const got: number[] = []
  const delivery = aDelivery(
    (rows) => {
      if (!isUp()) return Promise.reject(new DeliveryError('it is down'))
      got.push(...rows.map(({ seq }) => seq))
      return Promise.resolve({ rejected: 0 })
    },
    { limits: { records: 16, bytes: 1_000_000 }, ...over },
  )
  return { got, delivery }
}

describe('a sink that no caller waits for', () => {
  it('gets what the store has, then what is appended, in order and once', async () => {
    const store = await aWholeStore()
    await store.audit.append(hundred.slice(0, 60))
    const { got, delivery } = keeping()
    const follower = aFollower(store, delivery)
    follower.appended(hundred[59]!)
    await expect.poll(() => got).toEqual(upTo(60))
    await store.audit.append(hundred.slice(60))
    follower.appended(hundred[99]!)
    await expect.poll(() => got).toEqual(upTo(100))
    await expect
      .poll(() => follower.status())
      .toMatchObject({
        ok: true,
        confirmed: 100,
        lag: { records: 0, seconds: 0 },
      })
    await follower.close()
    expect(await store.auditPositions.find('siem')).toMatchObject({ seq: 100, hash: hundred[99]!.hash })
  })

  it('promise 3: holds up no record while it is away, and gets all of them in order when it is back', async () => {
    const store = await aWholeStore()
    let isUp = false
    const { got, delivery } = keeping(() => isUp)
    const hanging = aFollower(
      store,
      aDelivery(() => new Promise(() => undefined), { name: 'http hanging' }),
      {
        position: aPosition(store, { sink: 'hanging' }),
        deadline: 50,
      },
    )
    const follower = aFollower(store, delivery, { alertAfter: 0 })
    const log = await aLog(store.audit, {
      appended(head) {
        hanging.appended(head)
        follower.appended(head)
      },
    })
    await append(log, 40)
    await expect.poll(() => hanging.status().problem).toMatch(/no answer within 50 ms|still busy/)
    await expect.poll(() => follower.status()).toMatchObject({ ok: false, confirmed: 0, lag: { records: 40 } })
    expect(follower.status().problem).toMatch(/it is down/)
    expect(log.status().every(({ ok }) => ok)).toBe(true)
    isUp = true
    await expect.poll(() => got).toEqual(upTo(40))
    await expect.poll(() => follower.status().ok).toBe(true)
    await log.append(aRecord('last'))
    await log.close()
    await follower.close()
    // The end gives a receiver that works the last records.
    expect(got).toEqual(upTo(41))
  })

  it('goes on where it had confirmed, and begins at the start or now where it is new', async () => {
    const store = await aWholeStore()
    await store.audit.append(hundred.slice(0, 50))
    const first = keeping()
    const follower = aFollower(store, first.delivery)
    follower.appended(hundred[49]!)
    await expect.poll(() => first.got.length).toBe(50)
    await follower.close()
    await store.audit.append(hundred.slice(50))
    const again = keeping()
    aFollower(store, again.delivery).appended(hundred[99]!)
    await expect.poll(() => again.got).toEqual(upTo(100).slice(50))
    const now = keeping()
    const fromNow = aFollower(store, now.delivery, { position: aPosition(store, { sink: 'new', backfill: 'now' }) })
    fromNow.appended(hundred[99]!)
    // It has a position before it has confirmed anything, so that it does not begin later after a crash.
    await expect.poll(() => store.auditPositions.find('new')).toMatchObject({ seq: 100 })
    expect(now.got).toEqual([])
    const next = aChain(101)[100]!
    await store.audit.append([next])
    fromNow.appended(next)
    await expect.poll(() => now.got).toEqual([101])
  })

  it('names a position that was moved, or that the store does not have, and sends nothing then', async () => {
    const store = await aWholeStore()
    await store.audit.append(hundred.slice(0, 50))
    const prove = (text: string): string => `proof of ${text}`
    const proofOf = (seq: number, hash: string): string =>
      prove(`audit sink position\n${JSON.stringify([store.audit.node, 'siem', seq, hash, ''])}`)
    const cases = [
      { position: { seq: 40, hash: hundred[39]!.hash, proof: 'forged' }, problem: /was altered/ },
      { position: { seq: 40, hash: 'other', proof: proofOf(40, 'other') }, problem: /40, is not in the store's chain/ },
      {
        position: { seq: 90, hash: hundred[89]!.hash, proof: proofOf(90, hundred[89]!.hash) },
        problem: /90, is not in the store's chain.*give the sink another name/,
      },
    ]
    for (const { position, problem } of cases) {
      await store.auditPositions.put('siem', { ...position, mark: '' })
      const { got, delivery } = keeping()
      const follower = aFollower(store, delivery)
      follower.appended(hundred[49]!)
      await expect.poll(() => follower.status().problem).toMatch(problem)
      expect(follower.status()).toMatchObject({ ok: false, confirmed: null, lag: { records: 50 } })
      expect(got).toEqual([])
      await follower.close()
    }
  })

  it('goes on where retention removed what it has, and begins with the oldest record that is left', async () => {
    const store = await aWholeStore()
    const pruned = {
      ...store,
      audit: {
        ...store.audit,
        query: (...[filter, page]: Parameters<typeof store.audit.query>) =>
          store.audit.query({ ...filter, afterSeq: Math.max(filter.afterSeq ?? 0, 30) }, page),
      },
    }
    await store.audit.append(hundred)
    const prove = (text: string): string => `proof of ${text}`
    const { hash } = hundred[29]!
    await store.auditPositions.put('siem', {
      seq: 30,
      hash,
      mark: '',
      proof: prove(`audit sink position\n${JSON.stringify([store.audit.node, 'siem', 30, hash, ''])}`),
    })
    for (const sink of ['siem', 'new']) {
      const { got, delivery } = keeping()
      aFollower(pruned, delivery, { position: aPosition(pruned, { sink }) }).appended(hundred[99]!)
      await expect.poll(() => got).toEqual(upTo(100).slice(30))
    }
  })

  it('counts a record that the receiver refuses for good, says so, and goes on', async () => {
    const store = await aWholeStore()
    await store.audit.append(hundred.slice(0, 20))
    const got: number[] = []
    const delivery = aDelivery((rows) => {
      if (rows.some(({ seq }) => seq === 7)) return Promise.reject(new DeliveryError('no', { refusesContent: true }))
      got.push(...rows.map(({ seq }) => seq))
      return Promise.resolve({ rejected: 0 })
    })
    const follower = aFollower(store, delivery)
    follower.appended(hundred[19]!)
    await expect.poll(() => follower.status()).toMatchObject({ ok: false, confirmed: 20, refused: 1 })
    expect(got).toEqual(upTo(20).filter((seq) => seq !== 7))
  })

  it('waits as long as the receiver asks', async () => {
    const store = await aWholeStore()
    await store.audit.append(hundred.slice(0, 5))
    const times: number[] = []
    const delivery = aDelivery(() => {
      times.push(performance.now())
      return times.length === 1
        ? Promise.reject(new DeliveryError('busy', { retryAfter: 300 }))
        : Promise.resolve({ rejected: 0 })
    })
    aFollower(store, delivery).appended(hundred[4]!)
    await expect.poll(() => times.length).toBe(2)
    expect(times[1]! - times[0]!).toBeGreaterThan(280)
  })

  it('loses nothing when its process is killed in the middle of a backfill, and repeats only what was not confirmed', async () => {
    const folder = await aFolder()
    const path = join(folder, 'deputy.db')
    const filled = await openSqliteStore({ path })
    const rows = aChain(4000)
    for (let at = 0; at < rows.length; at += 500) await filled.audit.append(rows.slice(at, at + 500))
    await filled.close()
    const batches: number[][] = []
    const url = await anHttpServer((body, response) => {
      batches.push((JSON.parse(body) as { event: { sequence: number } }[]).map(({ event }) => event.sequence))
      response.end()
    })
    const program = fileURLToPath(new URL('./backfill.ts', import.meta.url))
    /** Its last durable position, and where the run after it begins. */
    const durable: number[] = []
    const begins: number[] = []
    for (const killedAfter of [500, 2000, Infinity]) {
      const before = batches.length
      const child = spawn(process.execPath, [program, path, url], { stdio: ['ignore', 'pipe', 'inherit'] })
      let last = 0
      for await (const line of createInterface(child.stdout)) {
        last = Number(line)
        if (last > killedAfter) child.kill('SIGKILL')
      }
      durable.push(last)
      begins.push(batches[before]![0]!)
    }
    expect([...new Set(batches.flat())].toSorted((a, b) => a - b)).toEqual(upTo(4000))
    expect(begins[0]).toBe(1)
    expect(begins[1]).toBeGreaterThan(durable[0]!)
    expect(begins[2]).toBeGreaterThan(durable[1]!)
    // Within one run there is neither a gap nor a repetition, and no run leaves a gap to the one before it.
    const breaks = batches.filter((batch, at) => at > 0 && batch[0] !== batches[at - 1]!.at(-1)! + 1)
    expect(breaks.every(([first]) => begins.includes(first!))).toBe(true)
    expect(batches.some((batch, at) => at > 0 && batch[0]! > batches[at - 1]!.at(-1)! + 1)).toBe(false)
  })
})

describe('a sink over a receiver that callers wait for', () => {
  const aRequired = async (send: Delivery['send']) => {
    const store = await aWholeStore()
    const sink = new PositionedSink({
      delivery: aDelivery(send, { limits: { records: 16, bytes: 1_000_000 } }),
      position: aPosition(store),
      pacing: new Pacing({ ...quickly, first: 200, longest: 200 }),
      deadline: 2000,
      logger: silentLogger,
    })
    return { store, log: await aLog(store.audit, { sinks: [sink], deadline: 2000 }) }
  }

  it('promise 3: nothing is confirmed without it, and it has everything before the caller goes on', async () => {
    const got: number[] = []
    let isUp = true
    const { store, log } = await aRequired((rows: readonly AuditRow[]) => {
      if (!isUp) return Promise.reject(new DeliveryError('it is down'))
      got.push(...rows.map(({ seq }) => seq))
      return Promise.resolve({ rejected: 0 })
    })
    await append(log, 40)
    expect(got).toEqual(upTo(40))
    isUp = false
    await expect(log.append(aRecord('refused'))).rejects.toMatchObject({
      code: 'audit_unavailable',
      facts: { sink: 'http siem', problem: 'it is down' },
    })
    // A receiver that has just failed is left alone for a moment, and the caller does not wait for it.
    await expect(log.append(aRecord('at once'))).rejects.toMatchObject({ facts: { problem: /it is asked again in/ } })
    isUp = true
    await expect
      .poll(() =>
        log.append(aRecord('later')).then(
          () => 'ok',
          () => 'refused',
        ),
      )
      .toBe('ok')
    await log.close()
    const { seq } = (await store.audit.head())!
    expect(got).toEqual(upTo(seq))
    expect(await store.auditPositions.find('siem')).toMatchObject({ seq })
  })

  it('refuses the caller of a record that the receiver refuses for good, and serves the others', async () => {
    const { log } = await aRequired((rows) =>
      rows.some(({ id, event }) => id === 'poison' && event === 'token.exchange')
        ? Promise.reject(new DeliveryError('no', { refusesContent: true }))
        : Promise.resolve({ rejected: 0 }),
    )
    await log.append(aRecord('before'))
    const results = await Promise.allSettled(['poison', 'beside'].map((id) => log.append(aRecord(id))))
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    await log.append(aRecord('after'))
    await log.close()
  })

  it('a new one gets the records from the start before anything else', async () => {
    const store = await aWholeStore()
    await store.audit.append(hundred)
    const { got, delivery } = keeping()
    const sink = new PositionedSink({
      delivery,
      position: aPosition(store),
      pacing: new Pacing(quickly),
      deadline: 5000,
      logger: silentLogger,
    })
    const log = await aLog(store.audit, { sinks: [sink] })
    await log.append(aRecord('new'))
    expect(got).toEqual(upTo(101))
    await log.close()
  })
})
