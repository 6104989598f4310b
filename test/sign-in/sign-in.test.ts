import { decodeJwt, decodeProtectedHeader } from 'jose'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ACCESS_TOKEN, TOKEN_EXCHANGE } from '../support/daemon.ts'
import {
  authorize,
  redeemCode,
  refreshTokens,
  registerClient,
  RESOURCE,
  signInAtClient,
  startSignInWorld,
  type SignInWorld,
} from '../support/sign-in.ts'

let world: SignInWorld
let client: string

beforeAll(async () => {
  world = await startSignInWorld()
  client = await registerClient(world)
})
afterAll(() => world?.close())

const exchange = (token: string) =>
  world.daemon.token({
    grant_type: TOKEN_EXCHANGE,
    client_id: 'notes',
    subject_token: token,
    subject_token_type: ACCESS_TOKEN,
    audience: 'api',
  })

test('a client that knows only the server gets a token for it, which the exchange takes', async () => {
  const metadata = (await (await fetch(`${world.url}/.well-known/oauth-authorization-server`)).json()) as object
  expect(metadata).toMatchObject({
    issuer: world.url,
    authorization_endpoint: `${world.url}/oauth2/authorize`,
    registration_endpoint: `${world.url}/oauth2/register`,
    code_challenge_methods_supported: ['S256'],
    authorization_response_iss_parameter_supported: true,
    jwks_uri: `${world.url}/.well-known/jwks.json`,
  })
  const authorization = await authorize(world, client)
  expect(authorization.back.searchParams.get('iss')).toBe(world.url)
  const tokens = await redeemCode(world, authorization)
  expect(tokens).toMatchObject({ status: 200, token_type: 'Bearer', scope: 'notes:read' })
  expect(decodeProtectedHeader(tokens.access_token!)).toMatchObject({ typ: 'at+jwt', alg: 'ES256' })
  expect(decodeJwt(tokens.access_token!)).toMatchObject({
    iss: world.url,
    sub: 'alice',
    aud: RESOURCE,
    client_id: client,
    tenant: 'acme',
    groups: ['engineering'],
    scope: 'notes:read',
  })
  const exchanged = await exchange(tokens.access_token!)
  expect([exchanged.status, exchanged.body['error_description']]).toEqual([200, undefined])
})

test('a refresh token is used once; its successor goes on, and one that comes again later ends all of it', async () => {
  const first = await signInAtClient(world, client)
  const second = await refreshTokens(world, client, first.refresh_token!)
  expect(second).toMatchObject({ status: 200 })
  const third = await refreshTokens(world, client, second.refresh_token!)
  expect(third).toMatchObject({ status: 200 })
  const reused = await refreshTokens(world, client, first.refresh_token!)
  expect(reused).toMatchObject({ status: 400, error: 'invalid_grant' })
  expect(await refreshTokens(world, client, third.refresh_token!)).toMatchObject({
    status: 400,
    error: 'invalid_grant',
  })
  expect(await exchange(third.access_token!)).toMatchObject({ status: 400 })
})

test('promise 4: a revoked user, session or client gets nothing more', async () => {
  const tokens = await signInAtClient(world, client)
  const { sid } = decodeJwt(tokens.access_token!)
  expect((await world.daemon.deputy('revoke', '--session', String(sid))).code).toBe(0)
  expect((await exchange(tokens.access_token!)).status).toBe(400)
  expect(await refreshTokens(world, client, tokens.refresh_token!)).toMatchObject({ error: 'invalid_grant' })

  const again = await signInAtClient(world, client)
  expect((await world.daemon.deputy('revoke', '--client', client)).code).toBe(0)
  expect((await exchange(again.access_token!)).status).toBe(400)
  expect(await refreshTokens(world, client, again.refresh_token!)).toMatchObject({ error: 'invalid_grant' })
})

test('a refresh that is refused for a while uses no refresh token', async () => {
  const client = await registerClient(world)
  const tokens = await signInAtClient(world, client)
  expect((await world.daemon.deputy('user', 'disable', 'alice', '--tenant', 'acme')).code).toBe(0)
  expect(await refreshTokens(world, client, tokens.refresh_token!)).toMatchObject({ status: 400 })
  expect((await world.daemon.deputy('user', 'enable', 'alice', '--tenant', 'acme')).code).toBe(0)
  await world.daemon.write({
    'policies/access/no-refresh.cedar':
      '@id("no-sign-in") forbid (principal, action == Deputy::Action::"sign_in", resource);',
  })
  expect((await world.daemon.deputy('reload')).code).toBe(0)
  expect((await refreshTokens(world, client, tokens.refresh_token!)).status).not.toBe(200)
  await world.daemon.write({ 'policies/access/no-refresh.cedar': '// nothing is forbidden any more' })
  expect((await world.daemon.deputy('reload')).code).toBe(0)
  const next = await refreshTokens(world, client, tokens.refresh_token!)
  expect(next).toMatchObject({ status: 200 })
  // It was used now, and its successor counts.
  expect(await refreshTokens(world, client, next.refresh_token!)).toMatchObject({ status: 200 })
})
