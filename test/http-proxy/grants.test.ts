import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startOAuthProvider, type OAuthProviderDouble } from '../doubles/oauth-provider.ts'
import { startService, type Service } from '../doubles/service.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ask,
  startDaemonHere,
  startTestIssuer,
  type Answer,
  type RunningDaemon,
  type TestIssuer,
} from '../support/daemon.ts'
import { downstreamFile, grantFiles, seedGrants } from '../support/grants.ts'

let issuer: TestIssuer
let provider: OAuthProviderDouble
let service: Service
let minted: Service
let daemon: RunningDaemon

beforeAll(async () => {
  issuer = await startTestIssuer()
  provider = await startOAuthProvider()
  service = await startService()
  minted = await startService()
  const company = aCompany({
    issuer: issuer.url,
    notes: { downstreams: { 'notes-api': { scopes: ['read'] }, ledger: { scopes: ['ledger:read'] } } },
  })
  const as = { header: 'Authorization', value: 'Bearer {credential}' }
  daemon = await startDaemonHere({
    ...company,
    ...grantFiles(provider),
    'downstreams/notes-api.yaml': downstreamFile(provider, {
      client: { client_id: provider.client.id, client_secret: { file: 'client-secret' } },
      inject: { hosts: [service.url], as, only: true },
    }),
    'downstreams/ledger.yaml': {
      ...(company['downstreams/ledger.yaml'] as object),
      inject: { hosts: [minted.url], as },
    },
  })
  await daemon.stop()
  await seedGrants(daemon.home, provider, ['alice'])
  await daemon.start()
})
afterAll(async () => {
  await daemon?.close()
  for (const each of [service, minted, provider, issuer]) await each?.close()
})

const send = async (path: string, sub: string, headers: Record<string, string> = {}): Promise<Answer> =>
  ask(
    { socketPath: `${daemon.home}/run/proxy.sock` },
    {
      path,
      headers: { 'deputy-subject-token': await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub }), ...headers },
    },
  )

describe('credentials of every kind go through the proxy', () => {
  it("the user's own grant, refreshed where it has to be", async () => {
    expect((await send('/d/notes-api/me', 'alice')).status).toBe(200)
    expect(service.received.at(-1)!.headers.authorization).toMatch(/^Bearer access-/)
    expect(provider.refreshes).toHaveLength(1)
  })

  it("who has not connected yet is told where to: the answer is the proxy's, and has the link", async () => {
    const answer = await send('/d/notes-api/me', 'bob')
    expect(answer).toMatchObject({
      status: 400,
      headers: { 'deputy-error': 'interaction_required' },
      body: { error: 'interaction_required', reason: 'interaction_required' },
    })
    expect(answer.body['connect_url']).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/connect\//)
    expect(service.received).toHaveLength(1)
  })

  it('promise 1: a token that Deputy mints, for the scopes that were asked and allowed', async () => {
    expect((await send('/d/ledger/', 'alice', { 'deputy-scope': 'ledger:read ledger:write' })).status).toBe(200)
    const [, claims] = minted.received[0]!.headers.authorization!.split('.')
    expect(JSON.parse(Buffer.from(claims!, 'base64url').toString('utf8'))).toMatchObject({
      sub: 'alice',
      scope: 'ledger:read',
      client_id: 'notes',
    })
    expect((await send('/d/ledger/', 'alice', { 'deputy-scope': 'a  b' })).body['reason']).toBe('malformed_request')
    expect((await send('/d/ledger/', 'alice', { 'deputy-scope': 'ledger:write' })).body['reason']).toBe(
      'scope_not_available',
    )
    expect(minted.received).toHaveLength(1)
  })
})
