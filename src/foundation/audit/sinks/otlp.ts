import { z } from 'zod'
import type { AuditRow } from '#foundation/store'
import { ALL_CONFIRMED, DeliveryError, type Confirmation, type Delivery } from './delivery.ts'
import type { Origin, ToDocument } from './document.ts'
import { struck } from '#foundation/outbound'
import { post, unconfirmed, type Answer, type HttpReceiver } from './post.ts'

/** `AnyValue` of opentelemetry/proto/common/v1/common.proto, in the JSON of OTLP: 64-bit numbers are texts. */
type AnyValue =
  | { readonly stringValue: string }
  | { readonly boolValue: boolean }
  | { readonly intValue: string }
  | { readonly doubleValue: number }
  | { readonly arrayValue: { readonly values: readonly AnyValue[] } }
  | { readonly kvlistValue: { readonly values: readonly KeyValue[] } }
  | Record<string, never>

interface KeyValue {
  readonly key: string
  readonly value: AnyValue
}

/** Objects in a value are followed so far; the rest is JSON text. */
const MAX_DEPTH = 16

const toAny = (value: unknown, depth = 0): AnyValue => {
  if (typeof value === 'string') return { stringValue: value }
  if (typeof value === 'boolean') return { boolValue: value }
  if (typeof value === 'number')
    return Number.isSafeInteger(value) ? { intValue: String(value) } : { doubleValue: value }
  if (value === null || typeof value !== 'object') return {}
  if (depth >= MAX_DEPTH) return { stringValue: JSON.stringify(value) }
  if (Array.isArray(value)) return { arrayValue: { values: value.map((each) => toAny(each, depth + 1)) } }
  return {
    kvlistValue: {
      values: Object.entries(value)
        .filter(([, each]) => each !== undefined)
        .map(([key, each]) => ({ key, value: toAny(each, depth + 1) })),
    },
  }
}

/** Fields that a log record has of its own: its time, and the canonical text as its body. */
const ELSEWHERE = new Set(['@timestamp', 'event.original', 'record'])

/** Fields as attributes, with dots between the names, as OpenTelemetry writes them: `event.original`. */
const attributesOf = (document: object, prefix = ''): KeyValue[] =>
  Object.entries(document).flatMap(([name, value]) => {
    const key = `${prefix}${name}`
    if (value === undefined || ELSEWHERE.has(key)) return []
    const isGroup = typeof value === 'object' && value !== null && !Array.isArray(value)
    return isGroup && key !== 'deputy.detail' ? attributesOf(value, `${key}.`) : [{ key, value: toAny(value) }]
  })

/** opentelemetry/proto/logs/v1/logs.proto: SEVERITY_NUMBER_INFO and SEVERITY_NUMBER_WARN. */
const severityOf = (outcome: string) =>
  outcome === 'issued' || outcome === 'done'
    ? { severityNumber: 9, severityText: 'INFO' }
    : { severityNumber: 13, severityText: 'WARN' }

const toLogRecord = (row: AuditRow, observed: number, document: ToDocument) => ({
  timeUnixNano: `${row.at}000000`,
  observedTimeUnixNano: `${observed}000000`,
  ...severityOf(row.outcome),
  eventName: `deputy.${row.event}`,
  body: { stringValue: row.body },
  attributes: attributesOf(document(row)),
})

const answerSchema = z.looseObject({
  partialSuccess: z
    .looseObject({
      // A 64-bit number: a text in the JSON of protobuf, and a number at some receivers.
      rejectedLogRecords: z.coerce.number().int().nonnegative().default(0),
      errorMessage: z.string().default(''),
    })
    .nullish(),
})

/** @throws DeliveryError: not an answer of OTLP */
const confirmationOf = ({ text, words }: Answer, records: number): Confirmation => {
  let answer: z.output<typeof answerSchema>
  try {
    answer = answerSchema.parse(JSON.parse(text))
  } catch {
    throw new DeliveryError('it answered with status 200, and not as a receiver of OTLP', { answered: words })
  }
  const { rejectedLogRecords: rejected = 0, errorMessage = '' } = answer.partialSuccess ?? {}
  return rejected === 0 ? ALL_CONFIRMED : { rejected: Math.min(rejected, records), problem: struck(errorMessage) }
}

/**
 * https://opentelemetry.io/docs/specs/otlp/#otlphttp-response: what may be sent again; any other failure is one of
 * these records.
 */
const RETRYABLE = new Set([429, 502, 503, 504])

export interface OtlpOptions {
  readonly origin: Origin
  readonly version: string
  readonly document: ToDocument
}

/**
 * Logs in the JSON of OTLP/HTTP. What the receiver reports as rejected within a batch that it took is not sent again,
 * as the protocol says; it counts as refused.
 */
export const createOtlpDelivery = (
  of: Pick<Delivery, 'name' | 'limits'>,
  receiver: HttpReceiver,
  { origin, version, document }: OtlpOptions,
): Delivery => {
  const resource = {
    attributes: attributesOf({
      'service.name': 'deputy',
      'service.version': version,
      'service.instance.id': origin.node,
      'deployment.environment.name': origin.environment,
    }),
  }
  return {
    ...of,
    async send(rows, signal) {
      const observed = receiver.clock.now()
      const body = JSON.stringify({
        resourceLogs: [
          {
            resource,
            scopeLogs: [
              {
                scope: { name: 'deputy.audit', version },
                logRecords: rows.map((row) => toLogRecord(row, observed, document)),
              },
            ],
          },
        ],
      })
      const answer = await post(receiver, body, 'application/json', signal)
      if (answer.status === 200) return confirmationOf(answer, rows.length)
      throw RETRYABLE.has(answer.status) ? unconfirmed(answer) : unconfirmed({ ...answer, retryAfter: undefined })
    },
    close: () => Promise.resolve(),
  }
}
