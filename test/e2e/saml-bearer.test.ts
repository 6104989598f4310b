import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startAuthorizationServer, type AuthorizationServerDouble } from '../doubles/authorization-server.ts'
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

let issuer: TestIssuer
let server: AuthorizationServerDouble
let daemon: RunningDaemon
beforeAll(async () => {
  issuer = await startTestIssuer()
  server = await startAuthorizationServer()
  daemon = await startDaemonHere({
    ...aCompany({ issuer: issuer.url, notes: { downstreams: { orders: { scopes: ['read'] } } } }),
    'providers/login.yaml': {
      provider: 'login',
      name: 'Login',
      issuer: server.url,
      token_endpoint: `${server.url}/token`,
    },
    'downstreams/orders.yaml': {
      downstream: 'orders',
      credential: 'saml_bearer',
      provider: 'login',
      client: { client_id: server.client.id, client_secret: { file: 'client-secret' } },
      scopes: { read: 'Read', write: 'Write' },
      assertion: { key: { file: 'saml-key' } },
    },
    'client-secret': server.client.secret,
    'saml-key': server.samlSigner.key,
    'policies/access/orders.cedar':
      '@id("orders") permit (principal, action == Deputy::Action::"saml_bearer", resource == Deputy::Downstream::"orders");',
  })
})
afterAll(async () => {
  await daemon?.close()
  await server?.close()
  await issuer?.close()
})

const exchange = async (user: string): Promise<Answer> =>
  daemon.token({
    grant_type: TOKEN_EXCHANGE,
    subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub: user }),
    subject_token_type: ACCESS_TOKEN,
    audience: 'orders',
    scope: 'read write',
  })

describe('a token for a SAML assertion', () => {
  it('promise 1: is for the user whose token was shown and nobody else, with the scopes that are left of those asked', async () => {
    for (const user of ['alice', 'bob</saml:NameID><saml:NameID>alice']) {
      const { status, body } = await exchange(user)
      expect([status, body['scope'], body['token_type']]).toEqual([200, 'read', 'Bearer'])
      expect(server.issued.at(-1)).toMatchObject({ sub: user, scope: 'read' })
    }
    expect(server.issued).toHaveLength(2)
  })

  it('is refused for a user whom XML cannot name, however often, and others get theirs', async () => {
    for (let at = 0; at < 6; at += 1)
      expect((await exchange('mallory\uFFFE')).body).toMatchObject({ reason: 'provider_refused' })
    expect((await exchange('carol')).status).toBe(200)
    expect(daemon.output()).not.toContain('PRIVATE KEY')
  })
})
