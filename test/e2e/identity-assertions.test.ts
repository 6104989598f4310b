import { generateKeyPairSync } from 'node:crypto'
import {
  CrossAppAccessProvider,
  Client,
  discoverAndRequestJwtAuthGrant,
  StreamableHTTPClientTransport,
} from '@modelcontextprotocol/client'
import { decodeJwt, type JWK } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { hashClientSecret } from '../../src/identity/workload/client-secret.ts'
import { startIdentityProvider, type IdentityProviderDouble } from '../doubles/identity-provider.ts'
import { aCompany } from '../support/configuration.ts'
import { ask, startDaemonHere, type RunningDaemon } from '../support/daemon.ts'
import { startMcpServer, type RunningMcpServer } from '../support/mcp.ts'
import { freePort } from '../support/process.ts'

const CLIENT = { id: 'mcp-client', secret: 'mcp-client-secret' }
const POLICY =
  '@id("alice-reads") permit (principal == Deputy::User::"acme/alice", action == Deputy::Action::"minted", resource == Deputy::Downstream::"ledger");'
let idp: IdentityProviderDouble
let daemon: RunningDaemon
let server: RunningMcpServer
let [resource, issuer, user] = ['', '', 'alice']

beforeAll(async () => {
  const [port, connect] = [await freePort(), await freePort()]
  resource = `http://127.0.0.1:${port}/mcp`
  issuer = `http://127.0.0.1:${connect}`
  const key = {
    ...generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' }),
    kid: 'key',
  } as JWK
  idp = await startIdentityProvider({ key, audience: issuer, clientId: CLIENT.id, resource })
  const company = aCompany({
    issuer: idp.url,
    notes: {
      resource,
      tenants: ['acme'],
      first_authorization_server: 'deputy',
      tools: { read_ledger: { downstream: 'ledger', scopes: ['ledger:read'] } },
    },
  })
  daemon = await startDaemonHere(
    {
      ...company,
      'policies/access/alice.cedar': POLICY,
      'tenants/acme.yaml': {
        tenant: 'acme',
        issuers: [{ issuer: idp.url }],
        identity_assertions: {
          issuers: [idp.url],
          clients: [
            {
              client_id: CLIENT.id,
              client_secret: { scrypt: await hashClientSecret(new Secret(CLIENT.secret), createSystemRandom()) },
            },
          ],
        },
      },
      'tenants/globex.yaml': { tenant: 'globex' },
    },
    { issuer, listen: { connect: `127.0.0.1:${connect}` }, rates: { client: { requests: 6, per: '1h' } } },
  )
  server = await startMcpServer({
    sdk: 'v2',
    port,
    socket: daemon.socketPath,
    patience: 300,
    tools: {
      read_ledger: async ({ token }) => JSON.stringify(decodeJwt((await token({ downstream: 'ledger' })).reveal())),
    },
  })
})
afterAll(async () => {
  await server?.close()
  await daemon?.close()
  await idp?.close()
})

/** A client as the SDK makes it: it has the user's ID token of the company, and learns everything else from the MCP server. */
const aClient = () => {
  const provider = new CrossAppAccessProvider({
    clientId: CLIENT.id,
    clientSecret: CLIENT.secret,
    expectedIssuer: issuer,
    assertion: async ({ authorizationServerUrl, resourceUrl, scope, fetchFn }) =>
      (
        await discoverAndRequestJwtAuthGrant({
          idpUrl: idp.url,
          audience: authorizationServerUrl.replace(/\/$/, ''),
          resource: resourceUrl,
          idToken: await idp.idToken({ sub: user }),
          clientId: idp.client.id,
          clientSecret: idp.client.secret,
          fetchFn,
          ...(scope === undefined ? {} : { scope }),
        })
      ).jwtAuthGrant,
  })
  const client = new Client({ name: 'test', version: '1.0.0' }, { versionNegotiation: { mode: 'auto' } })
  return {
    client,
    provider,
    connect: () => client.connect(new StreamableHTTPClientTransport(new URL(resource), { authProvider: provider })),
  }
}
const redeem = (assertion: string) =>
  ask(
    { port: Number(new URL(issuer).port) },
    {
      path: '/oauth2/token',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({
        grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
        client_id: CLIENT.id,
        client_secret: CLIENT.secret,
        assertion,
      }).toString(),
    },
  )

describe('enterprise-managed authorization with Deputy as the authorization server', () => {
  it("requirements 16 and 17: the MCP SDK's cross-app-access client finds Deputy by the server's metadata, redeems the assertion and calls a tool for its user", async () => {
    const { client, provider, connect } = aClient()
    await connect()
    expect((await client.listTools()).tools.map(({ name }) => name)).toEqual(['read_ledger'])
    const { content } = await client.callTool({ name: 'read_ledger', arguments: {} })
    expect(JSON.parse((content as { text: string }[])[0]!.text)).toMatchObject({
      sub: 'alice',
      tenant: 'acme',
      scope: 'ledger:read',
    })
    expect(decodeJwt(provider.tokens()!.access_token)).toMatchObject({
      iss: issuer,
      aud: resource,
      sub: 'alice',
      client_id: CLIENT.id,
    })
    expect(provider.tokens()).not.toHaveProperty('refresh_token')
    await client.close()
  })

  it('promise 1: what the user may not do, the client may not either', async () => {
    user = 'mallory'
    const { client, connect } = aClient()
    await connect()
    expect((await client.listTools()).tools).toEqual([])
    await client.close()
    user = 'alice'
  })

  it("promise 4: after a revocation of the user the client's token is refused, and another assertion of before is worth nothing", async () => {
    const { client, connect } = aClient()
    await connect()
    expect((await client.listTools()).tools).toHaveLength(1)
    const { jwtAuthGrant } = await discoverAndRequestJwtAuthGrant({
      idpUrl: idp.url,
      audience: issuer,
      resource,
      idToken: await idp.idToken({ sub: 'alice' }),
      clientId: idp.client.id,
      clientSecret: idp.client.secret,
    })
    expect((await daemon.deputy('revoke', '--tenant', 'acme', '--user', 'alice', '--yes')).code).toBe(0)
    expect((await redeem(jwtAuthGrant)).status).not.toBe(200)
    await expect(client.callTool({ name: 'read_ledger', arguments: {} })).rejects.toThrow()
    await client.close()
  })

  it('a client that sends more than its rate is told when to come back, before its assertions are looked at', async () => {
    const answers = []
    for (let at = 0; at < 8; at += 1) answers.push(await redeem('x.y.z'))
    expect(answers.at(-1)).toMatchObject({
      status: 429,
      headers: { 'retry-after': expect.stringMatching(/^\d+$/) as string },
    })
  })
})
