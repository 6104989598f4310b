import { expect, test } from 'vitest'
import { DeputyError, refuse } from '../../src/errors.ts'
import { withAudit, type AuditedLine } from '../../src/flows/exchange/with-audit.ts'
import type { AuditRecord } from '../../src/foundation/audit/record.ts'

const record = (outcome: AuditRecord['outcome']): AuditRecord => ({
  id: 'request-1',
  event: 'token.exchange',
  outcome,
  detail: {},
})

/** Runs a line, and writes down what happens in which order. */
const run = async (
  given: Partial<AuditedLine<string>> & { append?: () => Promise<void>; isRepeated?: boolean } = {},
) => {
  const order: string[] = []
  const { append = () => Promise.resolve(), isRepeated = false, ...line } = given
  const outcome = await withAudit(
    {
      audit: {
        append: async ({ outcome: what }) => {
          order.push(`record ${what}`)
          await append()
        },
      },
      rates: { isRepeated: () => isRepeated },
    },
    {
      steps: () => Promise.resolve('a token'),
      issued: () => record('issued'),
      refused: () => record('refused'),
      assertValid: () => {
        order.push('ask again')
      },
      ended: (error) => {
        order.push(error === undefined ? 'ended' : `ended by ${error.code}`)
      },
      ...line,
    },
  ).catch((error: unknown) => error)
  return { order, outcome }
}
const codeOf = (outcome: unknown): string | undefined => (outcome instanceof DeputyError ? outcome.code : undefined)

test('promise 3: an outcome leaves after its record is durable and it was asked once more whether all of it is valid', async () => {
  const { order, outcome } = await run()
  expect(outcome).toBe('a token')
  expect(order).toEqual(['record issued', 'ask again', 'ended'])
})

test('promise 4: what was revoked while the record was written is refused, and that is recorded', async () => {
  const { order, outcome } = await run({
    assertValid: () => {
      throw refuse('revoked', { scope: 'user alice of acme', revoked_at: '2026-01-01' })
    },
  })
  expect(codeOf(outcome)).toBe('revoked')
  expect(order).toEqual(['record issued', 'ended by revoked', 'record refused'])
})

test('promise 3: a refusal is recorded; a fault of Deputy is one as well, without its words', async () => {
  const denied = await run({ steps: () => Promise.reject(refuse('policy_denied', { server: 's', downstream: 'd' })) })
  expect(codeOf(denied.outcome)).toBe('policy_denied')
  expect(denied.order).toEqual(['ended by policy_denied', 'record refused'])
  const broken = await run({ steps: () => Promise.reject(new TypeError('a detail of the inside')) })
  expect(codeOf(broken.outcome)).toBe('internal')
  expect((broken.outcome as Error).message).not.toContain('detail of the inside')
})

test('promise 3: nothing leaves without a record, and a log that is away is not asked twice', async () => {
  const { order, outcome } = await run({ append: () => Promise.reject(refuse('audit_unavailable')) })
  expect(codeOf(outcome)).toBe('audit_unavailable')
  expect(order).toEqual(['record issued', 'ended by audit_unavailable'])
})

test('a caller cannot fill the log: repeated refusals of a rate limit are recorded once, and some lines keep none', async () => {
  const steps = () => Promise.reject(refuse('rate_limited', { what: 'requests', seconds: 1 }))
  expect((await run({ steps, isRepeated: true })).order).toEqual(['ended by rate_limited'])
  expect((await run({ steps, refused: () => undefined })).order).toEqual(['ended by rate_limited'])
})
