import { describe, expect, it } from 'vitest'
import { deliver, DeliveryError, firstBatch } from '../../../src/foundation/audit/sinks/delivery.ts'
import { Pacing } from '../../../src/foundation/audit/sinks/pacing.ts'
import type { AuditRow } from '../../../src/foundation/store/records/audit.ts'
import { aChain, aDelivery, forever, quickly } from '../../support/audit-sinks.ts'

const rows = aChain(20)
const seqs = (of: readonly AuditRow[]): number[] => of.map(({ seq }) => seq)

/** A receiver that refuses requests with some records in them, and what it accepted. */
const refusing = (isBad: (row: AuditRow) => boolean) => {
  const accepted: number[] = []
  let requests = 0
  const delivery = aDelivery(
    (part) => {
      requests += 1
      if (part.some(isBad)) return Promise.reject(new DeliveryError('bad', { refusesContent: true }))
      accepted.push(...seqs(part))
      return Promise.resolve({ rejected: 0 })
    },
    { limits: { records: 8, bytes: 1_000_000 } },
  )
  return { delivery, accepted, requests: () => requests }
}

const delivered = async (delivery: Parameters<typeof deliver>[0], of: readonly AuditRow[] = rows) => {
  const confirmed: number[] = []
  const result = await deliver(delivery, of, forever, ({ seq }) => confirmed.push(seq)).catch((error: unknown) => error)
  return { confirmed, result }
}

describe('the delivery of records', () => {
  it('sends batches in order, of as many records and bytes as the limits say, and one that is longer alone', async () => {
    const bytes = rows[0]!.body.length
    for (const [limits, lengths] of [
      [{ records: 8, bytes: 1_000_000 }, [8, 8, 4]],
      [{ records: 100, bytes: bytes * 3 + 60 }, [3, 3, 3, 3, 3, 3, 2]],
      [{ records: 100, bytes: 1 }, Array.from({ length: 20 }, () => 1)],
    ] as const) {
      const sent: (readonly AuditRow[])[] = []
      const delivery = aDelivery(
        (part) => {
          sent.push(part)
          return Promise.resolve({ rejected: 0 })
        },
        { limits },
      )
      await delivered(delivery)
      expect(sent.map(({ length }) => length)).toEqual(lengths)
      expect(seqs(sent.flat())).toEqual(seqs(rows))
    }
    expect(firstBatch([], { records: 1, bytes: 1 })).toEqual([])
  })

  it('passes over a record that is refused by itself, wherever it stands, and never confirms what was not sent', async () => {
    for (const bad of [[1], [20], [8, 9], [1, 2, 3, 20], [4, 12, 13]]) {
      const { delivery, accepted } = refusing(({ seq }) => bad.includes(seq))
      const { confirmed, result } = await delivered(delivery)
      expect(result).toMatchObject({ problem: 'bad' })
      expect(seqs((result as { refused: AuditRow[] }).refused)).toEqual(bad)
      expect(accepted).toEqual(seqs(rows).filter((seq) => !bad.includes(seq)))
      expect(confirmed).toEqual(confirmed.toSorted((a, b) => a - b))
      expect(confirmed.at(-1)).toBe(20)
    }
  })

  it('passes over nothing at a receiver that refuses everything, and soon stops asking it', async () => {
    const { delivery, requests } = refusing(() => true)
    const { confirmed, result } = await delivered(delivery)
    expect(confirmed).toEqual([])
    expect(result).toMatchObject({ message: 'it accepts no record: bad', refusesContent: false })
    expect(requests()).toBeLessThan(30)
    const one = refusing(() => true)
    expect((await delivered(one.delivery, rows.slice(0, 1))).confirmed).toEqual([])
  })

  it('keeps what was confirmed before a failure', async () => {
    let requests = 0
    const delivery = aDelivery(
      () => ((requests += 1) === 2 ? Promise.reject(new Error('reset')) : Promise.resolve({ rejected: 0 })),
      { limits: { records: 8, bytes: 1_000_000 } },
    )
    const { confirmed, result } = await delivered(delivery)
    expect(confirmed).toEqual([8])
    expect(result).toMatchObject({ message: 'reset' })
  })
})

describe('the waits after failures', () => {
  it('grow to the longest, follow the receiver within bounds, and end with a success', () => {
    let now = 0
    const pacing = new Pacing({ ...quickly, first: 100, longest: 500, monotonic: () => now })
    const waits = [undefined, undefined, undefined, undefined, 3000, 999_999_999].map((asked) => {
      pacing.failed(asked)
      const { wait } = pacing
      now += wait
      return wait
    })
    expect(waits).toEqual([100, 200, 400, 500, 3000, 60_000])
    pacing.succeeded()
    expect(pacing.wait).toBe(0)
    pacing.failed()
    expect(pacing.wait).toBe(100)
  })
})
