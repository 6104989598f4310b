import { afterEach, describe, expect, it } from 'vitest'
import { CLAIMS, startOAuthProvider, type OAuthProviderDouble } from '../doubles/oauth-provider.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  prepareDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type Answer,
  type RunningDaemon,
  type TestIssuer,
} from '../support/daemon.ts'
import { grantFiles, providerFile, seedGrants, type SeedOptions } from '../support/grants.ts'

let issuer: TestIssuer
let provider: OAuthProviderDouble
let daemon: RunningDaemon
afterEach(async () => {
  await daemon?.close()
  await provider?.close()
  await issuer?.close()
})

const start = async (file: object, seed: SeedOptions): Promise<void> => {
  issuer = await startTestIssuer()
  provider = await startOAuthProvider()
  daemon = await prepareDaemonHere({
    ...aCompany({ issuer: issuer.url, notes: { downstreams: { 'notes-api': { scopes: ['read'] } } } }),
    ...grantFiles(provider),
    'providers/notes.yaml': providerFile(provider, file),
  })
  await seedGrants(daemon.home, provider, ['alice'], seed)
  await daemon.start()
}
const exchange = async (): Promise<Answer> =>
  daemon.token({
    grant_type: TOKEN_EXCHANGE,
    subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme' }),
    subject_token_type: ACCESS_TOKEN,
    audience: 'notes-api',
    scope: 'read',
  })

describe('what a provider says beside the token', () => {
  it("requirement 42: reaches the server as members of the answer, as far as the provider's file lists it", async () => {
    await start(
      { response_fields: ['instance_url'] },
      {
        lifetime: 3_600_000,
        fields: { instance_url: 'https://acme.my.salesforce.example', id: 'https://login.example/id/1' },
      },
    )
    const { status, body } = await exchange()
    expect([status, body['instance_url'], body['id'], body['token_type']]).toEqual([
      200,
      'https://acme.my.salesforce.example',
      undefined,
      'Bearer',
    ])
    expect((await exchange()).body['instance_url']).toBe('https://acme.my.salesforce.example')
  })

  it('requirement 39: a claims challenge reaches the server with the page on which the user answers it', async () => {
    await start({}, {})
    provider.spoil.token.push('challenge')
    const { status, body } = await exchange()
    expect([status, body['error'], body['reason'], body['claims']]).toEqual([
      400,
      'interaction_required',
      'step_up_required',
      CLAIMS,
    ])
    expect(body['connect_url']).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/connect\//)
    const { out } = await daemon.deputy('explain', String(body['correlation_id']))
    expect(out).toContain('a second factor is needed')
    expect((await exchange()).status).toBe(200)
  })
})
