/** Audit records at the receiver of the OpenTelemetry collector. */
import { describe, expect, it, onTestFinished } from 'vitest'
import { createOtlpDelivery } from '../../src/foundation/audit/sinks/otlp.ts'
import { findOtlp, startOtlpReceiver } from '../peers/otlp.ts'
import { aChain, aReceiver, ecs, forever, ORIGIN } from '../support/audit-sinks.ts'

interface Value {
  readonly stringValue?: string
  readonly intValue?: string
  readonly arrayValue?: { readonly values: readonly Value[] }
  readonly kvlistValue?: { readonly values: readonly { readonly key: string; readonly value: Value }[] }
}
interface LogRecord {
  readonly timeUnixNano: string
  readonly severityNumber: number
  readonly eventName: string
  readonly body: Value
  readonly attributes: readonly { readonly key: string; readonly value: Value }[]
}
interface Batch {
  readonly resourceLogs: readonly {
    readonly resource: Pick<LogRecord, 'attributes'>
    readonly scopeLogs: readonly { readonly logRecords: readonly LogRecord[] }[]
  }[]
}

describe.skipIf(!(await findOtlp()))('audit records over OTLP', () => {
  it('arrive at the OpenTelemetry receiver as they were sent', async () => {
    const receiver = await startOtlpReceiver()
    onTestFinished(() => receiver.close())
    const detail = { error: 'revoked', list: ['ä', 1, -2.5, true, null, { deep: [] }], large: 2 ** 40 }
    const rows = aChain(50, (seq) => ({ user: `ü"\n${seq}`, outcome: seq % 2 === 0 ? 'issued' : 'refused', detail }))
    const delivery = createOtlpDelivery(
      { name: 'otlp collector', limits: { records: 100, bytes: 1_000_000 } },
      aReceiver(`${receiver.url}/v1/logs`),
      { origin: ORIGIN, version: '1.0.0', document: ecs },
    )
    expect(await delivery.send(rows, forever)).toEqual({ rejected: 0 })
    await expect.poll(() => receiver.batches.length).toBe(1)
    const [{ resource, scopeLogs }] = (JSON.parse(receiver.batches[0]!) as Batch).resourceLogs as [
      Batch['resourceLogs'][number],
    ]
    expect(resource.attributes).toContainEqual({ key: 'service.name', value: { stringValue: 'deputy' } })
    const records = scopeLogs.flatMap(({ logRecords }) => logRecords)
    expect(records.map(({ body }) => body.stringValue)).toEqual(rows.map(({ body }) => body))
    for (const [index, record] of records.entries()) {
      const row = rows[index]!
      expect(record).toMatchObject({
        timeUnixNano: `${row.at}000000`,
        severityNumber: row.outcome === 'issued' ? 9 : 13,
        eventName: 'deputy.token.exchange',
      })
      const found = Object.fromEntries(record.attributes.map(({ key, value }) => [key, value]))
      expect(found['event.hash']).toEqual({ stringValue: row.hash })
      expect(found['event.sequence']).toEqual({ intValue: String(row.seq) })
      expect(found['user.id']).toEqual({ stringValue: row.user })
      expect(found['deputy.detail']?.kvlistValue?.values.map(({ key }) => key)).toEqual(['error', 'list', 'large'])
    }
    // A path that is not one of OTLP confirms nothing.
    const elsewhere = createOtlpDelivery(
      { name: 'otlp elsewhere', limits: { records: 100, bytes: 1_000_000 } },
      aReceiver(`${receiver.url}/other`),
      { origin: ORIGIN, version: '1.0.0', document: ecs },
    )
    await expect(elsewhere.send(rows, forever)).rejects.toThrow(/status 404/)
  })
})
