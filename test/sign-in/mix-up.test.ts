import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, test } from 'vitest'
import { startGoogleSignIn } from '../doubles/openid-sign-in.ts'
import { PASSWORD } from '../peers/openid-server.ts'
import { createBrowser } from '../peers/walk.ts'
import { authorizationUrl, registerClient, REDIRECT_URI, startSignInWorld } from '../support/sign-in.ts'

/** An identity provider of one tenant, which sends users to sign in at that of another, and waits for the code (RFC 9700 section 4.4). */
const startHostileProvider = async (place: { redirectTo: string; codes: string[] }) => {
  let origin = ''
  const server = createServer((request, response) => {
    const url = new URL(request.url!, origin)
    if (url.pathname === '/.well-known/openid-configuration') {
      const metadata = {
        issuer: origin,
        authorization_endpoint: `${origin}/authorize`,
        token_endpoint: `${origin}/token`,
        jwks_uri: `${origin}/keys`,
        response_types_supported: ['code'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: ['RS256'],
        code_challenge_methods_supported: ['S256'],
      }
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(metadata))
    } else if (url.pathname === '/authorize') {
      const to = new URL(place.redirectTo)
      to.searchParams.set('state', url.searchParams.get('state')!)
      response.writeHead(302, { location: to.href }).end()
    } else if (url.pathname === '/token') {
      let body = ''
      request
        .on('data', (chunk: Buffer) => {
          body += chunk.toString()
        })
        .on('end', () => {
          place.codes.push(new URLSearchParams(body).get('code') ?? '')
          response.writeHead(400, { 'content-type': 'application/json' }).end('{"error":"invalid_grant"}')
        })
    } else response.writeHead(404).end()
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return { server, origin }
}

test('threat 7: the identity provider of one tenant cannot have codes of another one sent to itself', async () => {
  const honest = await startGoogleSignIn()
  honest.users['alice'] = { sub: 'alice', hd: 'acme.example', email: 'alice@acme.example' }
  const place = { redirectTo: '', codes: [] as string[] }
  const hostile = await startHostileProvider(place)
  const server = {
    owner: 'notes@company.example',
    status: 'approved',
    sign_in: 'deputy',
    attest: [{ unix: { uid: process.getuid?.() ?? 0 } }],
    downstreams: {},
  }
  const client = honest.client
  const tenant = (id: string, issuer: string, claims: object = {}): object => ({
    tenant: id,
    issuers: [{ issuer, claims }],
    sign_in: { issuer, client_id: client.client_id, client_secret: { file: 'secrets/openid' } },
  })
  const world = await startSignInWorld(() => ({
    'secrets/openid': client.client_secret,
    'tenants/honest.yaml': tenant('honest', honest.issuer, { tenant: { claim: 'hd', value: 'acme.example' } }),
    'tenants/hostile.yaml': tenant('hostile', hostile.origin),
    'servers/a.yaml': { ...server, server: 'a', resource: 'https://a.example/mcp', tenants: ['honest'] },
    'servers/b.yaml': { ...server, server: 'b', resource: 'https://b.example/mcp', tenants: ['hostile'] },
  }))
  try {
    const registered = await registerClient(world)
    const attacker = createBrowser({ stopAt: (url) => url.startsWith(`${REDIRECT_URI}?`) })
    const login = await attacker.open(authorizationUrl(world, registered, { resource: 'https://a.example/mcp' }).url)
    place.redirectTo = login.url
    const victim = createBrowser()
    const page = await victim.open(authorizationUrl(world, registered, { resource: 'https://b.example/mcp' }).url)
    expect(page.url.startsWith(honest.issuer)).toBe(true)
    const after = await victim.submit(page, { login: 'alice', password: PASSWORD })
    expect(after.body).toContain('did not come from where the question went')
    expect(place.codes).toEqual([])
  } finally {
    await world.close()
    hostile.server.close()
    await honest.close()
  }
})
