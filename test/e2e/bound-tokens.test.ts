import { createHash, randomUUID } from 'node:crypto'
import { calculateJwkThumbprint, decodeJwt, decodeProtectedHeader, SignJWT, type JWK } from 'jose'
import * as oauth from 'oauth4webapi'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  aKeyPair,
  startDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type Answer,
  type RunningDaemon,
  type TestIssuer,
} from '../support/daemon.ts'

const TXN_TOKEN = 'urn:ietf:params:oauth:token-type:txn_token'
const THUMBPRINT = createHash('sha256').update('a certificate').digest('hex')

describe('tokens that are bound to a key', () => {
  let issuer: TestIssuer
  let daemon: RunningDaemon
  const { privateKey, jwk } = aKeyPair()
  beforeAll(async () => {
    issuer = await startTestIssuer()
    const company = aCompany({
      issuer: issuer.url,
      notes: {
        certificate: THUMBPRINT,
        downstreams: { ledger: { scopes: ['ledger:read'] }, bank: { scopes: [] }, safe: { scopes: [] }, mail: {} },
      },
    })
    daemon = await startDaemonHere({
      ...company,
      'downstreams/bank.yaml': {
        downstream: 'bank',
        credential: 'minted',
        resource: 'https://bank.example',
        bound: 'dpop',
      },
      'downstreams/safe.yaml': {
        downstream: 'safe',
        credential: 'minted',
        resource: 'https://safe.example',
        bound: 'mtls',
      },
      'policies/access/bound.cedar':
        '@id("bound")\npermit (principal, action == Deputy::Action::"minted", resource) when { [Deputy::Downstream::"bank", Deputy::Downstream::"safe"].contains(resource) };',
    })
  })
  afterAll(async () => {
    await daemon?.close()
    await issuer?.close()
  })
  const proofWith = (claims: object = {}): Promise<string> =>
    new SignJWT({
      jti: randomUUID(),
      htm: 'POST',
      htu: 'http://localhost/oauth2/token',
      iat: Math.floor(Date.now() / 1000),
      ...claims,
    })
      .setProtectedHeader({ alg: 'ES256', typ: 'dpop+jwt', jwk: jwk as JWK })
      .sign(privateKey)
  const exchange = async (
    audience: string,
    given: { proof?: string; form?: object; claims?: object } = {},
  ): Promise<Answer> =>
    daemon.token(
      {
        grant_type: TOKEN_EXCHANGE,
        subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme', ...given.claims }),
        subject_token_type: ACCESS_TOKEN,
        audience,
        ...given.form,
      },
      given.proof === undefined ? {} : { dpop: given.proof },
    )

  it('requirement 23: a token is bound to the key that the request proves, and says so', async () => {
    const { status, body } = await exchange('ledger', { proof: await proofWith(), form: { scope: 'ledger:read' } })
    expect([status, body['token_type']]).toEqual([200, 'DPoP'])
    expect(decodeJwt(String(body['access_token']))['cnf']).toEqual({ jkt: await calculateJwkThumbprint(jwk as JWK) })
    const bearer = await exchange('ledger', { form: { scope: 'ledger:read' } })
    expect(bearer.body['token_type']).toBe('Bearer')
    expect(decodeJwt(String(bearer.body['access_token']))['cnf']).toBeUndefined()
  })

  it('requirement 23: where the downstream wants a bound one there is no other', async () => {
    expect((await exchange('bank')).body).toMatchObject({ error: 'invalid_dpop_proof', reason: 'proof_missing' })
    expect((await exchange('bank', { proof: await proofWith() })).body).toMatchObject({ token_type: 'DPoP' })
    expect((await exchange('mail', { proof: await proofWith() })).body).toMatchObject({
      error: 'invalid_request',
      reason: 'malformed_request',
    })
    expect((await exchange('bank', { proof: await proofWith({ htm: 'GET' }) })).body).toMatchObject({
      error: 'invalid_dpop_proof',
    })
  })

  it("requirement 23: one for mTLS is bound to the certificate in the server's file", async () => {
    const { body } = await exchange('safe')
    expect(decodeJwt(String(body['access_token']))['cnf']).toEqual({
      'x5t#S256': Buffer.from(THUMBPRINT, 'hex').toString('base64url'),
    })
  })

  it('requirement 23: a bound subject token counts only for a server that checks the key', async () => {
    const bound = { claims: { cnf: { jkt: 'x' } }, form: { scope: 'ledger:read' } }
    expect((await exchange('ledger', bound)).body).toMatchObject({
      error: 'invalid_request',
      reason: 'subject_token_invalid',
    })
    await daemon.write(aCompany({ issuer: issuer.url, notes: { checks_possession: true, certificate: THUMBPRINT } }))
    expect((await daemon.deputy('reload')).code).toBe(0)
    expect((await exchange('ledger', bound)).status).toBe(200)
  })

  it('an independent client binds its token, with the nonce that it is asked for', async () => {
    await daemon.write({
      'deputy.yaml': {
        environment: 'test',
        issuer: `http://127.0.0.1:${daemon.port}`,
        network: { allow_loopback: true },
        listen: { connect: `127.0.0.1:${daemon.port}` },
        tokens: { dpop_nonce: true },
      },
    })
    expect((await daemon.deputy('reload')).code).toBe(0)
    const keyPair = await oauth.generateKeyPair('ES256')
    const client: oauth.Client = { client_id: 'notes' }
    const server: oauth.AuthorizationServer = {
      issuer: `http://127.0.0.1:${daemon.port}`,
      token_endpoint: `http://127.0.0.1:${daemon.port}/oauth2/token`,
    }
    const handle = oauth.DPoP(client, keyPair)
    const viaSocket = async (
      _url: string,
      init: { headers: Record<string, string>; body?: unknown },
    ): Promise<Response> => {
      const answer = await daemon.token(new URLSearchParams(String(init.body)), {
        dpop: String(init.headers['dpop'] ?? init.headers['DPoP']),
      })
      return new Response(answer.text, {
        status: answer.status,
        headers: Object.entries(answer.headers).flatMap(([name, value]) =>
          typeof value === 'string' ? [[name, value] as [string, string]] : [],
        ),
      })
    }
    const ask = async (): Promise<oauth.TokenEndpointResponse> => {
      const form = new URLSearchParams({
        subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme' }),
        subject_token_type: ACCESS_TOKEN,
        audience: 'ledger',
        scope: 'ledger:read',
      })
      const response = await oauth.genericTokenEndpointRequest(server, client, oauth.None(), TOKEN_EXCHANGE, form, {
        DPoP: handle,
        [oauth.customFetch]: viaSocket as never,
        [oauth.allowInsecureRequests]: true,
      })
      return oauth.processGenericTokenEndpointResponse(server, client, response)
    }
    const first = await ask().catch((error: unknown) => error)
    expect(oauth.isDPoPNonceError(first)).toBe(true)
    expect((await ask()).token_type).toBe('dpop')
  })
})

describe('transaction tokens', () => {
  let issuer: TestIssuer
  let daemon: RunningDaemon
  beforeAll(async () => {
    issuer = await startTestIssuer()
    daemon = await startDaemonHere(aCompany({ issuer: issuer.url }))
  })
  afterAll(async () => {
    await daemon?.close()
    await issuer?.close()
  })

  it('requirement 27: are one for each call, say who began it, and are no access tokens', async () => {
    const subject = await issuer.sign({ aud: RESOURCES.notes, org: 'acme', groups: ['engineering'] })
    const ask = () =>
      daemon.token({
        grant_type: TOKEN_EXCHANGE,
        subject_token: subject,
        subject_token_type: ACCESS_TOKEN,
        audience: 'ledger',
        scope: 'ledger:read',
        requested_token_type: TXN_TOKEN,
        tool: 'pay',
      })
    const answers = await Promise.all([ask(), ask(), ask()])
    for (const { body } of answers) expect(body).toMatchObject({ token_type: 'N_A', issued_token_type: TXN_TOKEN })
    const tokens = answers.map(({ body }) => String(body['access_token']))
    expect(decodeProtectedHeader(tokens[0]!)).toMatchObject({ typ: 'txntoken+jwt', alg: 'ES256' })
    expect(decodeJwt(tokens[0]!)).toMatchObject({
      sub: 'alice',
      aud: 'https://ledger.example/api',
      scope: 'ledger:read',
      req_wl: 'notes',
      tctx: { tenant: 'acme', tool: 'pay' },
      txn: expect.any(String) as string,
      exp: expect.any(Number) as number,
      iat: expect.any(Number) as number,
    })
    expect(new Set(tokens.map((token) => decodeJwt(token)['txn'])).size).toBe(3)
    expect(
      (
        await daemon.token({
          grant_type: TOKEN_EXCHANGE,
          subject_token: tokens[0]!,
          subject_token_type: ACCESS_TOKEN,
          audience: 'ledger',
        })
      ).body,
    ).toMatchObject({ reason: 'subject_token_invalid' })
  })
})
