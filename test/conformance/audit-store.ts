import * as fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { emptyChain, link } from '../../src/foundation/audit/format/chain.ts'
import type { AuditRecord } from '../../src/foundation/audit/record.ts'
import type { AuditFilter, AuditRow, AuditStore } from '../../src/foundation/store/records/audit.ts'

/** A place where an audit log lives: it can be opened again after it was closed. */
export interface AuditPlace {
  readonly installation: string
  open(): Promise<{ readonly audit: AuditStore; close(): Promise<void> }>
  dispose(): Promise<void>
}

type Wish = Partial<Omit<AuditRecord, 'detail'>> & { readonly at?: number; readonly detail?: object }

/** Records that follow each other. */
const aChain = (installation: string, node: string, wishes: readonly Wish[]): AuditRow[] => {
  let head = emptyChain({ installation, node })
  return wishes.map(({ at, detail, ...record }, index) => {
    const row = link(head, {
      record: {
        id: `request-${index + 1}`,
        event: 'token.exchange',
        outcome: 'issued',
        tenant: 'acme',
        user: 'ada',
        server: 'notes',
        ...record,
      },
      detail: JSON.stringify(detail ?? {}),
      at: at ?? (index + 1) * 10,
    })
    head = row
    return row
  })
}

const names = fc.constantFrom(undefined, 'ada', 'bob', 'a"b', 'é😀', '')
const events = ['token.exchange', 'login', 'revocation'] as const
const outcomes = ['issued', 'refused', 'done'] as const
const wish = fc.record({
  id: fc.constantFrom('one', 'two', 'three'),
  event: fc.constantFrom(...events),
  outcome: fc.constantFrom(...outcomes),
  tenant: names,
  user: names,
  server: names,
  downstream: fc.constantFrom(undefined, 'ledger', 'agent ledger', 'ledger_x calendar'),
  at: fc.nat({ max: 60 }),
  detail: fc.constantFrom({}, { token: 'Abc_1' }, { token: '100%' }, { text: 'line\n"quoted"' }),
})
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined, freq: 2 })
const filters = fc
  .record({
    id: maybe(fc.constantFrom('one', 'two', 'none')),
    event: maybe(fc.constantFrom(...events, 'never')),
    outcome: maybe(fc.constantFrom(...outcomes)),
    tenant: maybe(fc.constantFrom('ada', 'bob', 'a"b', 'é😀', '')),
    user: maybe(fc.constantFrom('ada', 'bob')),
    server: maybe(fc.constantFrom('ada', 'é😀')),
    downstream: maybe(fc.constantFrom('ledger', 'agent', 'ledger_x', 'l%')),
    since: maybe(fc.nat({ max: 60 })),
    until: maybe(fc.nat({ max: 60 })),
    otherThan: maybe(fc.subarray([...events])),
    mentions: maybe(fc.constantFrom('abc_1', '100%', '"quoted"', 'line\n')),
    afterSeq: maybe(fc.nat({ max: 60 })),
    node: fc.constantFrom(undefined, '*'),
  })
  .map((filter) => Object.fromEntries(Object.entries(filter).filter(([, value]) => value !== undefined)) as AuditFilter)

const EQUAL = ['id', 'event', 'outcome', 'tenant', 'user', 'server'] as const
/** What a search has to find, by looking at every record. */
const expected = (rows: readonly AuditRow[], filter: AuditFilter, limit: number, last: boolean): number[] => {
  const order = (a: AuditRow, b: AuditRow): number => (filter.node === '*' ? a.at - b.at : 0) || a.seq - b.seq
  const found = rows
    .filter((row) => EQUAL.every((column) => filter[column] === undefined || row[column] === filter[column]))
    .filter(({ event }) => filter.otherThan?.includes(event) !== true)
    .filter(
      ({ downstream }) => filter.downstream === undefined || (downstream ?? '').split(' ').includes(filter.downstream),
    )
    .filter(({ at }) => at >= (filter.since ?? 0) && at <= (filter.until ?? Infinity))
    .filter(({ seq }) => seq > (filter.afterSeq ?? 0))
    .filter(
      ({ body }) =>
        filter.mentions === undefined ||
        body.toLowerCase().includes(JSON.stringify(filter.mentions).slice(1, -1).toLowerCase()),
    )
    .sort(order)
    .map(({ seq }) => seq)
  return last ? found.slice(-limit) : found.slice(0, limit)
}

/** What every home of an audit log does, whatever it is made of. */
export const describeAuditStore = (name: string, place: () => Promise<AuditPlace>): void => {
  describe(`${name} is a home of an audit log`, () => {
    let home: AuditPlace
    let opened: Awaited<ReturnType<AuditPlace['open']>>
    let audit: AuditStore
    const open = async (): Promise<void> => {
      opened = await home.open()
      audit = opened.audit
    }
    beforeEach(async () => {
      home = await place()
      await open()
    })
    afterEach(async () => {
      await opened.close()
      await home.dispose()
    })
    const rowsOf = (wishes: readonly Wish[]): AuditRow[] => aChain(home.installation, audit.node, wishes)
    const found = async (...query: Parameters<AuditStore['query']>): Promise<number[]> =>
      (await audit.query(...query)).map(({ seq }) => seq)

    it('appends rows all or none', async () => {
      expect(await audit.head()).toBeUndefined()
      expect(await audit.chains()).toEqual([])
      const rows = rowsOf([{}, {}, {}])
      await audit.append(rows.slice(0, 2))
      await expect(audit.append([rows[2]!, rows[1]!])).rejects.toMatchObject({ code: 'conflict' })
      expect(await audit.head()).toEqual({ seq: 2, hash: rows[1]!.hash })
      expect(await audit.chains()).toEqual([audit.node])
      expect(await audit.query({ id: 'request-1' }, { limit: 1 })).toEqual([rows[0]])
    })

    it('finds rows by what they hold, from either end', async () => {
      await audit.append(rowsOf([{}, { user: 'bob' }, {}]))
      expect(await found({ user: 'ada' }, { limit: 9 })).toEqual([1, 3])
      expect(await found({}, { limit: 2, last: true })).toEqual([2, 3])
      expect(await found({ since: 20, until: 20 }, { limit: 9 })).toEqual([2])
      expect(await found({ afterSeq: 2 }, { limit: 9 })).toEqual([3])
      expect(await found({ node: 'nowhere' }, { limit: 9 })).toEqual([])
      expect(await audit.query({ node: '*' }, { limit: 1 })).toMatchObject([{ node: audit.node, seq: 1 }])
    })

    it('fault 1: finds the record of a credential for several downstreams by each of them', async () => {
      const names = ['ledger', 'agent ledger_x', 'agent ledger calendar', 'ledger-two ledgerzx']
      await audit.append(rowsOf(names.map((downstream) => ({ downstream }))))
      const of = (downstream: string): Promise<number[]> => found({ downstream }, { limit: 9 })
      expect(await of('ledger')).toEqual([1, 3])
      expect(await of('agent')).toEqual([2, 3])
      expect(await of('ledger_x')).toEqual([2])
      expect(await of('l%')).toEqual([])
    })

    it('finds the same as a look at every record', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(wish, { minLength: 1, maxLength: 60 }),
          fc.array(filters, { minLength: 30, maxLength: 30 }),
          async (wishes, asked) => {
            await opened.close()
            await home.dispose()
            home = await place()
            await open()
            const rows = rowsOf(wishes as Wish[])
            await audit.append(rows.slice(0, 20))
            for (const [at, filter] of asked.entries()) {
              if (at === 10 && rows.length > 20) await audit.append(rows.slice(20))
              const there = at < 10 ? rows.slice(0, 20) : rows
              const [limit, last] = [1 + (at % 5) * 9, at % 2 === 0]
              expect([filter, await found(filter, { limit, last })]).toEqual([
                filter,
                expected(there, filter, limit, last),
              ])
            }
          },
        ),
        { numRuns: 3, endOnFailure: true },
      )
    })

    it('keeps checkpoints in order, and everything when it was closed and opened', async () => {
      const rows = rowsOf([{}, {}, { detail: { text: '\u{1F600}\u0000' } }])
      const sign = async (row: AuditRow, number: number): Promise<void> => {
        await audit.addCheckpoint({ number, seq: row.seq, hash: row.hash, at: 1, kid: 'k', signature: 's' })
      }
      await audit.append(rows.slice(0, 1))
      await sign(rows[0]!, 1)
      await audit.append(rows.slice(1))
      await sign(rows[2]!, 2)
      for (const again of [false, true]) {
        if (again) {
          await opened.close()
          await open()
        }
        expect((await audit.checkpoints()).map(({ seq }) => seq)).toEqual([1, 3])
        expect((await audit.checkpoints(audit.node, { afterSeq: 1, limit: 5 })).map(({ seq }) => seq)).toEqual([3])
        expect(await audit.lastCheckpoint()).toMatchObject({ number: 2, seq: 3 })
        expect(await audit.lastCheckpoints()).toMatchObject([{ node: audit.node, number: 2 }])
        expect(await audit.query({}, { limit: 9 })).toEqual(rows)
      }
    })

    it('refuses with store_unavailable once it is closed', async () => {
      await opened.close()
      await expect(audit.query({}, { limit: 1 })).rejects.toMatchObject({ code: 'store_unavailable' })
      await expect(audit.append(rowsOf([{}]))).rejects.toMatchObject({ code: 'store_unavailable' })
      await open()
    })
  })
}
