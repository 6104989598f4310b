/** A client whose tokens are bound to its key, a server behind the middleware that does nothing for it, and those who steal the token. */
import { createHash, randomUUID } from 'node:crypto'
import { calculateJwkThumbprint, exportJWK, generateKeyPair, SignJWT } from 'jose'
import * as oauth from 'openid-client'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { walkAuthorization } from '../peers/openid-server.ts'
import { ACCESS_TOKEN, ask, TOKEN_EXCHANGE } from '../support/daemon.ts'
import { type RunningMcpServer, startMcpServer } from '../support/mcp.ts'
import { freePort } from '../support/process.ts'
import { REDIRECT_URI, registerClient, signInFiles, startSignInWorld, type SignInWorld } from '../support/sign-in.ts'

type Keys = Awaited<ReturnType<typeof generateKeyPair>>

let world: SignInWorld
let server: RunningMcpServer
let resource: string
let client: string
let bearer: string
let bound: string
let keys: Keys
let handle: oauth.DPoPHandle
let config: oauth.Configuration

const startServer = (port: number): Promise<RunningMcpServer> =>
  startMcpServer({
    sdk: 'v2',
    port,
    socket: world.daemon.socketPath,
    hosts: ['notes.example'],
    tools: { whoami: ({ user }) => `${user.sub} ${user.token.type}` },
  })

/** Signs alice in with a real client. @param dpop undefined: for a Bearer token */
const signIn = async (dpop?: oauth.DPoPHandle): Promise<oauth.TokenEndpointResponse> => {
  const verifier = oauth.randomPKCECodeVerifier()
  const url = oauth.buildAuthorizationUrl(config, {
    redirect_uri: REDIRECT_URI,
    resource,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
  })
  const back = await walkAuthorization({ authorizationUrl: url.href, redirectUri: REDIRECT_URI, user: 'alice' })
  return oauth.authorizationCodeGrant(
    config,
    back,
    { pkceCodeVerifier: verifier },
    { resource },
    dpop === undefined ? {} : { DPoP: dpop },
  )
}

beforeAll(async () => {
  const port = await freePort()
  resource = `http://127.0.0.1:${port}/mcp`
  world = await startSignInWorld(
    ({ idp }) => ({
      'servers/notes.yaml': {
        ...(signInFiles(idp)['servers/notes.yaml'] as object),
        resource,
        checks_possession: true,
      },
    }),
    { tokens: { dpop_nonce: true } },
  )
  server = await startServer(port)
  client = await registerClient(world)
  config = await oauth.discovery(new URL(world.url), client, undefined, oauth.None(), {
    execute: [oauth.allowInsecureRequests],
    algorithm: 'oauth2',
  })
  keys = await generateKeyPair('ES256', { extractable: true })
  handle = oauth.getDPoPHandle(config, keys as oauth.CryptoKeyPair)
  bearer = (await signIn()).access_token
  bound = (await signIn(handle)).access_token
})
afterAll(async () => {
  await server?.close()
  await world?.close()
})

const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' })
const headers = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' }

const send = (at: string, more: Record<string, string>): Promise<Response> =>
  fetch(at, { method: 'POST', body, headers: { ...headers, ...more } })

let nonce = ''
/** A proof for a request to the server, by the bound key unless another is given. */
const prove = async (claims: object = {}, by: Keys = keys): Promise<string> => {
  const { kty, crv, x, y } = await exportJWK(by.publicKey)
  return new SignJWT({
    jti: randomUUID(),
    htm: 'POST',
    htu: resource,
    ath: createHash('sha256').update(bound).digest('base64url'),
    nonce,
    iat: Math.floor(Date.now() / 1000),
    ...claims,
  })
    .setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk: { kty: kty!, crv: crv!, x: x!, y: y! } })
    .sign(by.privateKey)
}
const challengeOf = (response: Response): string => response.headers.get('www-authenticate') ?? ''

test('a real client gets a bound token and uses it at a server whose author has done nothing for it', async () => {
  const answer = await oauth.fetchProtectedResource(
    config,
    bound,
    new URL(resource),
    'POST',
    body,
    new Headers(headers),
    { DPoP: handle },
  )
  expect(answer.status).toBe(200)
  const metadata = (await (
    await fetch(`${new URL(resource).origin}/.well-known/oauth-protected-resource/mcp`)
  ).json()) as { dpop_signing_alg_values_supported: string[] }
  expect(metadata.dpop_signing_alg_values_supported).toContain('ES256')
})

test('a request without a token is offered both schemes', async () => {
  const answer = await send(resource, {})
  expect(answer.status).toBe(401)
  expect(challengeOf(answer)).toMatch(/^Bearer scope=.*, DPoP scope=.*algs="ES256 /)
})

test('a proof without the nonce gets it, and one with it counts', async () => {
  const answer = await send(resource, { authorization: `DPoP ${bound}`, dpop: await prove({ nonce: undefined }) })
  expect(answer.status).toBe(401)
  expect(challengeOf(answer)).toMatch(/^DPoP error="use_dpop_nonce"/)
  nonce = answer.headers.get('dpop-nonce')!
  expect((await send(resource, { authorization: `DPoP ${bound}`, dpop: await prove() })).status).toBe(200)
  expect(
    (await send(resource, { authorization: `DPoP ${bound}`, dpop: await prove({ htu: `${resource}?a=1` }) })).status,
  ).toBe(200)
})

describe('threat 14: a stolen token', () => {
  const refused = async (more: Record<string, string>): Promise<string> => {
    const answer = await send(resource, more)
    expect(answer.status).toBe(401)
    expect(await answer.text()).not.toContain(bound)
    return challengeOf(answer)
  }

  test('is nothing under the scheme Bearer, with a proof or without', async () => {
    for (const more of [{}, { dpop: await prove() }])
      expect(await refused({ authorization: `Bearer ${bound}`, ...more })).toMatch(
        /^Bearer error="invalid_token".*, DPoP /,
      )
  })

  test('is nothing without a proof, with two, or with one of another key', async () => {
    const authorization = `DPoP ${bound}`
    expect(await refused({ authorization })).toMatch(/^DPoP error="invalid_dpop_proof"/)
    expect(await refused({ authorization, dpop: `${await prove()}, ${await prove()}` })).toMatch(/invalid_dpop_proof/)
    expect(await refused({ authorization, dpop: await prove({}, await generateKeyPair('ES256')) })).toMatch(
      /^DPoP error="invalid_token"/,
    )
  })

  test('is nothing with a proof for another token, method, server or time', async () => {
    for (const claims of [
      { ath: createHash('sha256').update(bearer).digest('base64url') },
      { ath: undefined },
      { htm: 'GET' },
      { htu: 'https://evil.example/mcp' },
      { htu: resource.replace('/mcp', '/other') },
      { iat: Math.floor(Date.now() / 1000) - 100 },
    ])
      expect([claims, await refused({ authorization: `DPoP ${bound}`, dpop: await prove(claims) })]).toEqual([
        claims,
        expect.stringMatching(/^DPoP error="invalid_dpop_proof"/),
      ])
  })

  test('is nothing with a proof that was overheard, at another instance of the server either', async () => {
    const dpop = await prove()
    const authorization = `DPoP ${bound}`
    expect((await send(resource, { authorization, dpop })).status).toBe(200)
    expect(await refused({ authorization, dpop })).toMatch(/^DPoP error="invalid_dpop_proof"/)
    const port = await freePort()
    const another = await startServer(port)
    try {
      const overheard = await send(another.url, { authorization, dpop })
      expect([overheard.status, challengeOf(overheard)]).toEqual([401, expect.stringContaining('invalid_dpop_proof')])
    } finally {
      await another.close()
    }
  })
})

test('a token that is bound to no key is no DPoP token, whatever is proved', async () => {
  expect((await send(resource, { authorization: `Bearer ${bearer}` })).status).toBe(200)
  const ath = createHash('sha256').update(bearer).digest('base64url')
  const answer = await send(resource, { authorization: `DPoP ${bearer}`, dpop: await prove({ ath }) })
  expect([answer.status, challengeOf(answer)]).toEqual([401, expect.stringMatching(/^DPoP error="invalid_token"/)])
})

test('the local API: a server in any language sends scheme, proof, method and URL; the exchange takes what was proved', async () => {
  const introspect = (more: Record<string, string>) =>
    ask(
      { socketPath: world.daemon.socketPath },
      {
        path: '/oauth2/introspect',
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams({ client_id: 'notes', token: bound, ...more }).toString(),
      },
    )
  const request = { token_scheme: 'DPoP', htm: 'POST', htu: resource }
  expect((await introspect({ ...request, dpop_proof: await prove() })).body).toMatchObject({
    active: true,
    token_type: 'DPoP',
    cnf: { jkt: await calculateJwkThumbprint(await exportJWK(keys.publicKey)) },
  })
  expect((await introspect({ ...request, token_scheme: 'Bearer' })).text).toBe('{"active":false}')
  expect((await introspect(request)).body).toEqual({ active: false, error: 'invalid_dpop_proof' })
  expect((await introspect({ ...request, dpop_proof: await prove({ nonce: '' }) })).body).toEqual({
    active: false,
    error: 'use_dpop_nonce',
    dpop_nonce: nonce,
  })
  for (const bad of [{ token_scheme: 'Basic' }, { htm: 'P OST' }, { htu: 'mcp' }, { htm: '' }])
    expect((await introspect({ ...request, ...bad })).status).toBe(400)
  expect((await introspect({ dpop_proof: 'x' })).status).toBe(400)
  const exchanged = await world.daemon.token({
    grant_type: TOKEN_EXCHANGE,
    client_id: 'notes',
    subject_token: bound,
    subject_token_type: ACCESS_TOKEN,
    audience: 'api',
  })
  expect(exchanged.status).toBe(200)
})
