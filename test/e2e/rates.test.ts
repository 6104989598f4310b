import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  startDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type Answer,
  type RunningDaemon,
  type TestIssuer,
} from '../support/daemon.ts'

describe('rates in deputy.yaml', () => {
  let issuer: TestIssuer
  let daemon: RunningDaemon
  beforeAll(async () => {
    issuer = await startTestIssuer()
    daemon = await startDaemonHere(aCompany({ issuer: issuer.url }), {
      rates: { user: { requests: 3, per: '60s' } },
    })
  })
  afterAll(async () => {
    await daemon?.close()
    await issuer?.close()
  })
  const call = async (sub: string): Promise<Answer> =>
    daemon.token({
      grant_type: TOKEN_EXCHANGE,
      subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub }),
      subject_token_type: ACCESS_TOKEN,
      audience: 'ledger',
      scope: 'ledger:read',
    })

  it('answer with 429 and Retry-After what is over them, for that user alone, and write a flood down once', async () => {
    const statuses: number[] = []
    for (let at = 0; at < 8; at += 1) statuses.push((await call('alice')).status)
    expect(statuses).toEqual([200, 200, 200, 429, 429, 429, 429, 429])
    const refused = await call('alice')
    expect(refused.body).toMatchObject({
      error: 'temporarily_unavailable',
      reason: 'rate_limited',
      error_description: 'Too many requests for the user alice of acme.',
    })
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(30)
    expect((await call('bob')).status).toBe(200)
    const records = JSON.parse((await daemon.deputy('audit', 'query', '--user', 'alice', '--json')).out) as {
      outcome: string
    }[]
    expect(records.filter(({ outcome }) => outcome === 'refused')).toHaveLength(1)
  })
})
