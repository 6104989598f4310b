import * as fc from 'fast-check'
import { ClientError, ResponseBodyError } from 'openid-client'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createSharedBytes } from '../../src/foundation/redis/redis.ts'
import { createProviderCalls } from '../../src/credentials/provider/call.ts'
import { failureOf, retryAfterOf, wordsOf } from '../../src/credentials/provider/failure.ts'
import { refuse } from '../../src/errors.ts'
import { noTelemetry } from '../../src/foundation/telemetry/telemetry.ts'
import { findRedis, startRedis, type RedisServer } from '../peers/redis.ts'
import { aClock } from '../support/snapshot.ts'

/** What the client library throws for such an answer. */
const anAnswer = (status: number, headers: Record<string, string> = {}): ResponseBodyError =>
  new ResponseBodyError('refused', {
    cause: { error: 'slow_down' },
    response: new Response('{}', { status, headers }),
  } as never)
const NOTES = { provider: 'notes', tenant: 'acme', operation: 'refresh' }
const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'done',
    (error: { code?: string }) => error.code ?? 'thrown',
  )

describe('a provider that is busy', () => {
  it('says for how long in seconds or by a date, and nobody is believed for longer than a quarter of an hour', () => {
    const now = Date.parse('2026-03-01T12:00:00Z')
    const wait = (value: string, status = 429): number | undefined =>
      retryAfterOf(anAnswer(status, { 'retry-after': value }), now)
    expect([
      wait('30'),
      wait('30', 503),
      wait('Sun, 01 Mar 2026 12:01:00 GMT'),
      wait('999999'),
      wait('-1'),
      wait('soon'),
      wait('Sun, 01 Mar 2026 11:00:00 GMT'),
      wait('30', 400),
      retryAfterOf(new Error('x'), now),
    ]).toEqual([30_000, 30_000, 60_000, 900_000, undefined, undefined, undefined, undefined, undefined])
  })

  it('is left alone for that long by everybody of the tenant, and by nobody else', async () => {
    const clock = aClock()
    const call = createProviderCalls({ telemetry: noTelemetry, clock })
    let asked = 0
    const busy = (): Promise<never> => {
      asked += 1
      return Promise.reject(anAnswer(429, { 'retry-after': '60' }))
    }
    expect(await codeOf(call(NOTES, busy))).not.toBe('provider_busy')
    expect(asked).toBe(1)
    expect([await codeOf(call(NOTES, busy)), asked]).toEqual(['provider_busy', 1])
    expect(call.troubles()).toEqual([
      { provider: 'notes', tenant: 'acme', state: 'asked_to_wait', until: clock.now() + 60_000 },
    ])
    expect(await codeOf(call({ ...NOTES, tenant: 'globex' }, () => Promise.resolve()))).toBe('done')
    clock.forward(60_001)
    expect([await codeOf(call(NOTES, () => Promise.resolve())), call.troubles()]).toEqual(['done', []])
  })

  it('one that fails again and again is left alone, and shown so', async () => {
    const call = createProviderCalls({ telemetry: noTelemetry, clock: aClock() })
    for (let at = 0; at < 5; at += 1) await codeOf(call(NOTES, () => Promise.reject(anAnswer(500))))
    for (let at = 0; at < 5; at += 1) await codeOf(call(NOTES, () => Promise.reject(new Error('socket hang up'))))
    expect(await codeOf(call(NOTES, () => Promise.resolve()))).toBe('provider_circuit_open')
    expect(call.troubles()).toMatchObject([{ provider: 'notes', tenant: 'acme', state: 'open' }])
    expect(await codeOf(call({ ...NOTES, tenant: 'globex' }, () => Promise.resolve()))).toBe('done')
  })

  it('is not left alone for what Deputy itself refused before it was asked, however often', async () => {
    const call = createProviderCalls({ telemetry: noTelemetry, clock: aClock() })
    for (let at = 0; at < 6; at += 1)
      expect(
        await codeOf(
          call(NOTES, () => Promise.reject(refuse('target_unknown', { target: 'notes', server: 'calendar' }))),
        ),
      ).toBe('target_unknown')
    expect([await codeOf(call(NOTES, () => Promise.resolve())), call.troubles()]).toEqual(['done', []])
  })

  describe.skipIf(!findRedis())('with a real Redis between nodes', () => {
    let server: RedisServer
    beforeAll(async () => {
      server = await startRedis(['save ""'])
    })
    afterAll(() => server?.close())

    it('is left alone by every node', async () => {
      const clock = aClock()
      const shares = [0, 1].map(() =>
        createSharedBytes(
          {
            mode: 'single',
            nodes: [{ host: '127.0.0.1', port: server.port }],
            master: 'm',
            username: undefined,
            password: undefined,
            tls: false,
            deadline: 500,
          },
          { logger: { info() {}, warn() {}, error() {} } as never, monotonic: () => performance.now() },
        ),
      )
      for (const each of shares) await expect.poll(() => each.problem()).toBeNull()
      const [one, two] = shares.map((shared) => createProviderCalls({ telemetry: noTelemetry, clock, shared }))
      await codeOf(one!(NOTES, () => Promise.reject(anAnswer(429, { 'retry-after': '60' }))))
      expect(await codeOf(two!(NOTES, () => Promise.resolve()))).toBe('provider_busy')
      expect(await codeOf(two!({ ...NOTES, tenant: 'globex' }, () => Promise.resolve()))).toBe('done')
      for (const each of shares) await each.close()
    })
  })
})

describe('how a request went wrong', () => {
  it('is told from what Deputy itself refused, however deep a client has wrapped it', () => {
    const wrapped = (facts: object): Error =>
      new ClientError('something went wrong', {
        cause: refuse('egress_refused', { url: 'https://x', problem: 'it is private', ...facts }),
      })
    expect([failureOf(wrapped({})), wordsOf(wrapped({}))]).toEqual([
      'not_sent',
      'Deputy does not connect to https://x: it is private.',
    ])
    // What was cut off because it is too long was an answer: the provider has acted.
    expect(failureOf(wrapped({ answered: 'yes' }))).toBe('lost')
  })

  it('no token stands in the words of a provider', () => {
    const token = fc.stringMatching(/^[A-Za-z0-9_-]{40,60}$/)
    fc.assert(
      fc.property(
        token,
        fc.constantFrom('', '<p>', 'Bearer ', 'the token "', 'https://x.example/?t='),
        (secret, before) => {
          const words = wordsOf(
            new ClientError('x', { cause: new Response('', { status: 200 }) }),
            `<h1>Sorry</h1> ${before}${secret}" is no good`,
          )
          expect(words).toContain('Sorry')
          for (let at = 0; at + 16 <= secret.length; at += 1) expect(words).not.toContain(secret.slice(at, at + 16))
        },
      ),
    )
    expect(
      wordsOf(new ClientError('x', { cause: new Response('', { status: 200 }) }), '{"access_token":"abc","oops":true}'),
    ).toBe('its answer is not what the standard says (members access_token, oops)')
    expect(wordsOf(new ClientError('x', { cause: new Response('', { status: 200 }) }), '{"access_token":"abc')).toBe(
      'its answer is not what the standard says',
    )
  })
})
