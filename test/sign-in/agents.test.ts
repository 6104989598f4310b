/** Programs that act for themselves at MCP servers: how they prove who they are, what they get, and what ends it. */
import { randomUUID } from 'node:crypto'
import { ClientCredentialsProvider, PrivateKeyJwtProvider } from '@modelcontextprotocol/sdk/client/auth-extensions.js'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { calculateJwkThumbprint, decodeJwt, exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { hashClientSecret } from '../../src/identity/workload/client-secret.ts'
import {
  ACCESS_TOKEN,
  aKeyPair,
  type Answer,
  ask,
  startTestIssuer,
  type TestIssuer,
  TOKEN_EXCHANGE,
} from '../support/daemon.ts'
import { type RunningMcpServer, startMcpServer } from '../support/mcp.ts'
import { freePort } from '../support/process.ts'
import {
  authorizationUrl,
  registerClient,
  signInFiles,
  startSignInWorld,
  type SignInWorld,
  type Tokens,
} from '../support/sign-in.ts'

const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
const SECRET = 'secret of the nightly job'
const keys = aKeyPair()

let world: SignInWorld
let server: RunningMcpServer
let ci: TestIssuer
let resource: string

const agentFile = (client: string, agent: object, more: object = {}): Record<string, object> => ({
  [`clients/${client}.yaml`]: {
    client,
    owner: 'platform@company.example',
    agent: { tenant: 'acme', ...agent },
    ...more,
  },
})

const files = async (idp: Parameters<typeof signInFiles>[0]): Promise<Record<string, object | string>> => {
  // Cheap, for a test: what it costs is in the hash.
  const scrypt = await hashClientSecret(new Secret(SECRET), createSystemRandom(), { N: 1024, r: 8, p: 1 })
  const notes = { notes: { scopes: ['notes:read'] } }
  const token = { issuer: ci.url, algorithms: ['ES256'] }
  return {
    'servers/notes.yaml': {
      ...(signInFiles(idp)['servers/notes.yaml'] as object),
      resource,
      checks_possession: true,
      downstreams: { api: { scopes: ['api:read', 'api:write'] }, vendor: { scopes: ['read'] }, other: { scopes: [] } },
      tools: { whoami: {}, add_note: { requires: ['notes:write'] }, ask_vendor: { downstream: 'vendor' } },
    },
    'servers/other.yaml': {
      ...(signInFiles(idp)['servers/notes.yaml'] as object),
      server: 'other',
      resource: 'https://other.example/mcp',
      downstreams: { vendor: { scopes: ['read'] }, api: { scopes: ['api:read'] } },
    },
    'downstreams/api.yaml': {
      downstream: 'api',
      credential: 'minted',
      resource: 'https://api.example',
      tenants: ['acme'],
      scopes: { 'api:read': 'Read', 'api:write': 'Write' },
    },
    'downstreams/other.yaml': {
      downstream: 'other',
      credential: 'minted',
      resource: 'https://other.example/mcp',
      tenants: ['acme'],
    },
    'downstreams/vendor.yaml': {
      downstream: 'vendor',
      credential: 'oauth_grant',
      provider: 'github',
      resource: 'https://vendor.example',
      scopes: { read: 'Read' },
      tenants: ['acme'],
      client: { client_id: 'x', client_secret: { file: 'secrets/sign-in' } },
    },
    ...agentFile('nightly', { servers: notes }, { authentication: { client_secret: { scrypt } } }),
    ...agentFile(
      'deploy',
      { servers: { ...notes, other: {} } },
      { authentication: { private_key_jwt: { jwks: { keys: [keys.jwk] } } } },
    ),
    // The id of a user.
    ...agentFile('alice', { servers: notes }, { authentication: { client_secret: { scrypt } } }),
    ...agentFile('build', {
      servers: notes,
      tokens: [
        { ...token, subject: 'repo:acme/app:*', claims: { repository_owner_id: '1234', 'job.protected': true } },
      ],
    }),
    ...agentFile('pod', {
      servers: notes,
      tokens: [{ ...token, audience: 'deputy', subject: 'system:serviceaccount:apps:pod', reusable: true }],
    }),
    ...agentFile('first', { servers: notes, tokens: [{ ...token, subject: 'both' }] }),
    ...agentFile('second', { servers: notes, tokens: [{ ...token, subject: 'both' }] }),
    'policies/access/all.cedar': `
      permit (principal is Deputy::User, action, resource);
      permit (principal is Deputy::Agent, action, resource)
      when { principal.owner == "platform@company.example" && principal in Deputy::Tenant::"acme" };
      forbid (principal == Deputy::Agent::"acme/nightly", action, resource)
      when { context.scopes.contains("api:write") };
    `,
  }
}

beforeAll(async () => {
  ci = await startTestIssuer()
  const port = await freePort()
  resource = `http://127.0.0.1:${port}/mcp`
  world = await startSignInWorld()
  await world.daemon.write(await files(world.idp))
  const reloaded = await world.daemon.deputy('reload')
  if (reloaded.code !== 0) throw new Error(reloaded.out + reloaded.err)
  server = await startMcpServer({
    sdk: 'v1',
    clientId: 'notes',
    port,
    socket: world.daemon.socketPath,
    tools: { whoami: ({ user }) => JSON.stringify(user), ask_vendor: () => 'never', add_note: () => 'never' },
  })
})
afterAll(async () => {
  await server?.close()
  await world?.close()
  await ci?.close()
})

const request = async (
  form: Record<string, string>,
  headers: Record<string, string> = {},
): Promise<Tokens & { token_type?: string }> => {
  const response = await fetch(`${world.url}/oauth2/token`, {
    method: 'POST',
    body: new URLSearchParams(form),
    headers,
  })
  return { ...((await response.json()) as object), status: response.status, headers: response.headers }
}
const withSecret = (client: string, more: Record<string, string> = {}) =>
  request({ grant_type: 'client_credentials', client_id: client, client_secret: SECRET, resource, ...more })
/** A token of the CI's issuer, as the build's file wants it. */
const ciToken = (claims: object = {}, header: object = {}): Promise<string> =>
  ci.sign(
    {
      aud: world.url,
      sub: 'repo:acme/app:ref:refs/heads/main',
      repository_owner_id: '1234',
      job: { protected: true },
      groups: undefined,
      ...claims,
    },
    { typ: 'JWT', ...header },
  )
const withToken = (assertion: string, more: Record<string, string> = {}) =>
  request({ grant_type: JWT_BEARER, assertion, ...more })
const exchange = (token: string, more: Record<string, string> = {}): Promise<Answer> =>
  world.daemon.token({
    grant_type: TOKEN_EXCHANGE,
    client_id: 'notes',
    subject_token: token,
    subject_token_type: ACCESS_TOKEN,
    audience: 'api',
    ...more,
  })
const tools = (token: string): Promise<Answer> =>
  ask(
    { socketPath: world.daemon.socketPath },
    {
      path: '/tools',
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({ client_id: 'notes', subject_token: token }).toString(),
    },
  )

describe('proofs', () => {
  test('a secret, a key or a token of another issuer gets a token of minutes for the agent, and no refresh token', async () => {
    const answers = [await withSecret('nightly'), await withToken(await ciToken())]
    for (const [at, answer] of answers.entries()) {
      expect([answer.status, answer.error_description]).toEqual([200, undefined])
      expect(answer.refresh_token).toBeUndefined()
      expect(answer).toMatchObject({ token_type: 'Bearer', scope: 'notes:read' })
      const id = ['nightly', 'build'][at]!
      expect(decodeJwt(answer.access_token!)).toMatchObject({
        iss: world.url,
        sub: id,
        client_id: id,
        aud: resource,
        tenant: 'acme',
        agent: true,
        scope: 'notes:read',
      })
      expect((await tools(answer.access_token!)).body).toMatchObject({
        active: true,
        sub: id,
        agent: true,
        client_id: id,
      })
    }
    const { out } = await world.daemon.deputy('audit', 'tail', '--limit', '20', '--json')
    expect(out).toContain('"event":"token.agent"')
    expect(out).toContain('repo:acme/app:ref:refs/heads/main')
    expect(out).not.toContain('"user":"nightly"')
    const shown = await world.daemon.deputy('client', 'show', 'nightly')
    expect(shown.out).toContain('agent: it acts for itself in acme at notes; users do not sign in at it')
  })

  test.each(['secret', 'key'])(
    'the official MCP client gets in with a %s, knowing the URL of the server',
    async (how) => {
      const more = { expectedIssuer: world.url }
      const authProvider =
        how === 'secret'
          ? new ClientCredentialsProvider({ clientId: 'nightly', clientSecret: SECRET, ...more })
          : new PrivateKeyJwtProvider({
              clientId: 'deploy',
              privateKey: String(keys.privateKey.export({ format: 'pem', type: 'pkcs8' })),
              algorithm: 'ES256',
              ...more,
            })
      const client = new Client({ name: 'agent', version: '1.0.0' })
      await client.connect(new StreamableHTTPClientTransport(new URL(resource), { authProvider }) as Transport)
      const { content } = (await client.callTool({ name: 'whoami', arguments: {} })) as { content: { text: string }[] }
      expect(JSON.parse(content[0]!.text)).toMatchObject({
        sub: how === 'secret' ? 'nightly' : 'deploy',
        isAgent: true,
        tenant: 'acme',
      })
      expect((await client.listTools()).tools.map(({ name }) => name)).not.toContain('ask_vendor')
      await client.close()
    },
  )

  test('a wrong secret, a secret of no agent, and a client of users are refused in one way', async () => {
    const registered = await registerClient(world)
    for (const fields of [
      { client_id: 'nightly', client_secret: 'guess' },
      { client_id: 'unknown', client_secret: SECRET },
      { client_id: 'deploy', client_secret: SECRET },
      { client_id: registered, client_secret: SECRET },
      { client_id: 'nightly' },
    ]) {
      const answer = await request({ grant_type: 'client_credentials', resource, ...fields })
      expect([fields, answer.status, answer.error]).toEqual([fields, 401, 'invalid_client'])
    }
  })

  test('no user signs in at an agent', async () => {
    const { url } = authorizationUrl(world, 'nightly', { resource })
    expect((await fetch(url)).status).toBe(400)
  })

  test('threat 14: a client assertion counts once, for Deputy, and by the key of the file', async () => {
    const sign = (claims: object = {}, key = keys.privateKey): Promise<string> =>
      new SignJWT({ iss: 'deploy', sub: 'deploy', aud: world.url, jti: randomUUID(), ...claims })
        .setProtectedHeader({ alg: 'ES256', kid: 'key' })
        .setIssuedAt()
        .setExpirationTime('1m')
        .sign(key)
    const send = (assertion: string) =>
      request({
        grant_type: 'client_credentials',
        client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
        client_assertion: assertion,
        resource,
      })
    const good = await sign()
    expect((await send(good)).status).toBe(200)
    for (const bad of [
      good,
      await sign({ aud: 'https://other.example' }),
      await sign({ iss: 'nightly', sub: 'nightly' }),
      await sign({}, aKeyPair().privateKey),
    ])
      expect((await send(bad)).error).toBe('invalid_client')
  })
})

describe('tokens of other issuers: every part fits, or none', () => {
  test.each([
    ['another repository that begins alike', { sub: 'repo:acme/app-evil:ref:refs/heads/main' }],
    ['the beginning alone', { sub: 'repo:acme/app:' }],
    ['no subject', { sub: undefined }],
    ['another audience', { aud: 'https://other.example' }],
    ['a second audience', { aud: ['AUD', 'https://other.example'] }],
    ['no audience', { aud: undefined }],
    ['another value of a claim', { repository_owner_id: '1235' }],
    ['a number in place of a text', { repository_owner_id: 1234 }],
    ['a list that has the value', { repository_owner_id: ['1234'] }],
    ['a missing claim', { repository_owner_id: undefined }],
    ['another value of a nested claim', { job: { protected: 'true' } }],
    ['another issuer', { iss: 'https://evil.example' }],
    ['its end behind it', { exp: Math.floor(Date.now() / 1000) - 1 }],
    ['no end', { exp: undefined }],
    ['an end in years', { exp: Math.floor(Date.now() / 1000) + 90_000 }],
    ['a beginning to come', { nbf: Math.floor(Date.now() / 1000) + 300 }],
    ['two agents that it fits', { sub: 'both' }],
  ])('%s', async (_, claims: Record<string, unknown>) => {
    const aud = JSON.parse(JSON.stringify(claims['aud'] ?? null).replace('AUD', world.url)) as unknown
    const token = await ciToken({ ...claims, ...('aud' in claims ? { aud: aud ?? undefined } : {}) })
    expect(await withToken(token)).toMatchObject({ status: 400, error: 'invalid_grant' })
  })

  test('a token of another key, another kind, or with a key of its own', async () => {
    const pair = aKeyPair()
    const claims = decodeJwt(await ciToken())
    const other = await new SignJWT({ ...claims, jti: randomUUID() })
      .setProtectedHeader({ alg: 'ES256', kid: 'key' })
      .sign(pair.privateKey)
    for (const bad of [
      other,
      await ciToken({}, { typ: 'logout+jwt' }),
      await ciToken({}, { jwk: pair.jwk }),
      'no.jwt.at-all',
      `${'a'.repeat(20_000)}.b.c`,
    ])
      expect(await withToken(bad)).toMatchObject({ status: 400, error: 'invalid_grant' })
    expect((await withToken(await ciToken(), { client_id: 'nightly' })).error).toBe('invalid_grant')
    expect((await withToken(await ciToken(), { client_id: 'nightly', client_secret: SECRET })).error).toBe(
      'invalid_request',
    )
  })

  test('counts once, unless the platform gives the same one until it is renewed', async () => {
    const once = await ciToken()
    expect((await withToken(once)).status).toBe(200)
    expect((await withToken(once)).error_description).toContain('used before')
    const pod = await ciToken({ aud: ['deputy'], sub: 'system:serviceaccount:apps:pod', jti: undefined })
    for (const _ of [1, 2]) expect((await withToken(pod)).status).toBe(200)
  })
})

describe('what an agent gets', () => {
  test('tokens for the servers and the scopes of its file', async () => {
    expect(await withSecret('nightly', { resource: 'https://other.example/mcp' })).toMatchObject({
      status: 400,
      error: 'invalid_target',
    })
    expect(await withSecret('nightly', { scope: 'notes:write' })).toMatchObject({ status: 400, error: 'invalid_scope' })
    expect(await withSecret('nightly', { scope: 'notes:write notes:read' })).toMatchObject({
      status: 200,
      scope: 'notes:read',
    })
    const one = await request({ grant_type: 'client_credentials', client_id: 'nightly', client_secret: SECRET })
    expect(decodeJwt(one.access_token!).aud).toBe(resource)
  })

  test('minted credentials, by a policy that knows it as an agent', async () => {
    const { access_token: token } = await withSecret('nightly')
    const minted = await exchange(token!, { scope: 'api:read api:write' })
    expect([minted.status, minted.body['scope']]).toEqual([200, 'api:read'])
    expect(decodeJwt(String(minted.body['access_token']))).toMatchObject({
      sub: 'nightly',
      agent: true,
      act: { sub: 'notes' },
      aud: 'https://api.example',
    })
    expect((await exchange((await withSecret('alice')).access_token!, { scope: 'api:write' })).body['scope']).toBe(
      'api:write',
    )
  })

  test('threat 12: nothing of a user, whose id it may have', async () => {
    const { access_token: token } = await withSecret('alice')
    const refused = await exchange(token!, { audience: 'vendor' })
    expect([refused.status, refused.body['reason']]).toEqual([403, 'agent_not_served'])
  })

  test('threat 12: and nothing of a user at the next server of a chain either', async () => {
    const { access_token: token } = await withSecret('alice')
    const passedOn = String((await exchange(token!, { audience: 'other' })).body['access_token'])
    const there = { client_id: 'other' }
    const refused = await exchange(passedOn, { ...there, audience: 'vendor' })
    expect([refused.status, refused.body['reason']]).toEqual([403, 'agent_not_served'])
    const minted = await exchange(passedOn, there)
    expect(decodeJwt(String(minted.body['access_token']))).toMatchObject({
      sub: 'alice',
      agent: true,
      act: { sub: 'other', act: { sub: 'notes' } },
    })
  })

  test('deputy policy explain says what policy and the kind allow an agent', async () => {
    const explain = (agent: string, downstream: string) =>
      world.daemon.deputy(
        'policy',
        'explain',
        '--server',
        'notes',
        '--tenant',
        'acme',
        '--agent',
        agent,
        '--downstream',
        downstream,
      )
    expect((await explain('nightly', 'api')).out).toContain('allowed: minted with api:read (')
    expect((await explain('nightly', 'vendor')).err).toContain('nightly is an agent')
    expect((await explain('nobody', 'api')).err).toContain('nobody')
  })

  test('a token that is bound to its key, where it proves one', async () => {
    const pair = await generateKeyPair('ES256', { extractable: true })
    const jwk: JWK = await exportJWK(pair.publicKey)
    const dpop = await new SignJWT({ jti: randomUUID(), htm: 'POST', htu: `${world.url}/oauth2/token` })
      .setProtectedHeader({
        alg: 'ES256',
        typ: 'dpop+jwt',
        jwk: jwk as { kty: string; crv: string; x: string; y: string },
      })
      .setIssuedAt()
      .sign(pair.privateKey)
    const form = { grant_type: 'client_credentials', client_id: 'nightly', client_secret: SECRET, resource }
    const bound = await request(form, { dpop })
    expect(bound.token_type).toBe('DPoP')
    expect(decodeJwt(bound.access_token!)['cnf']).toEqual({ jkt: await calculateJwkThumbprint(jwk) })
    expect((await request(form, { dpop })).error).toBe('invalid_dpop_proof')
  })
})

describe('promise 4: what ends it, at once', () => {
  const isActive = async (token: string): Promise<boolean> => (await tools(token)).body['active'] === true

  test.each([
    ['its client', () => ['--client', 'pod'], { aud: 'deputy', sub: 'system:serviceaccount:apps:pod' }],
    ['the issuer that spoke for it', () => ['--issuer', ci.url, '--force'], {}],
  ] as const)('a revocation of %s', async (_, scope, claims) => {
    const token = (await withToken(await ciToken(claims))).access_token!
    expect(await isActive(token)).toBe(true)
    const minted = await exchange(token)
    expect(minted.status).toBe(200)
    const done = await world.daemon.deputy('revoke', ...scope())
    expect([done.code, done.err]).toEqual([0, expect.any(String)])
    expect(await isActive(token)).toBe(false)
    expect((await exchange(token)).status).toBe(400)
  })

  test('its file', async () => {
    const token = (await withSecret('nightly')).access_token!
    const kept = (await withSecret('alice')).access_token!
    expect((await exchange(token)).status).toBe(200)
    await world.daemon.write({
      'clients/nightly.yaml': {
        client: 'nightly',
        owner: 'platform@company.example',
        enabled: false,
        agent: { tenant: 'acme', servers: { notes: {} }, tokens: [{ issuer: ci.url, subject: 'x' }] },
      },
    })
    await world.daemon.deputy('reload')
    expect(await isActive(token)).toBe(false)
    expect((await exchange(token)).body['reason']).toBe('subject_client_disabled')
    expect(await isActive(kept)).toBe(true)
  })

  test('a frozen tenant gives no tokens', async () => {
    await world.daemon.deputy('tenant', 'freeze', 'acme')
    expect((await withSecret('alice')).status).toBe(403)
    await world.daemon.deputy('tenant', 'thaw', 'acme')
    expect((await withSecret('alice')).status).toBe(200)
  })
})
