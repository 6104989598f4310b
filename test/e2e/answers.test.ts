import { importJWK } from 'jose'
import * as oauth from 'oauth4webapi'
import * as openid from 'openid-client'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  aKeyPair,
  ask,
  startDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type RunningDaemon,
  type TestIssuer,
} from '../support/daemon.ts'
import { freePort } from '../support/process.ts'

let issuer: TestIssuer
let daemon: RunningDaemon
let port: number
const key = aKeyPair()
beforeAll(async () => {
  issuer = await startTestIssuer()
  // The file names the issuer with a slash that the issuer does not have.
  port = await freePort()
  daemon = await startDaemonHere(
    aCompany({ issuer: `${issuer.url}/`, notes: { tenants: ['acme'] }, keys: { agent: key.jwk } }),
    { listen: { tcp: `127.0.0.1:${port}` } },
  )
})
afterAll(async () => {
  await daemon?.close()
  await issuer?.close()
})

describe('what the daemon answers', () => {
  it('fault 19, promise 9: an issuer that differs by a slash is not unreachable, and both names are said', async () => {
    const { status, body } = await daemon.token({
      grant_type: TOKEN_EXCHANGE,
      subject_token: await issuer.sign({ iss: `${issuer.url}/`, aud: RESOURCES.notes, org: 'acme' }),
      subject_token_type: ACCESS_TOKEN,
      audience: 'ledger',
    })
    expect([status, body['reason']]).toEqual([502, 'issuer_not_understood'])
    expect(body['error_description']).toContain(`names ${issuer.url}, the tenant's file ${issuer.url}/`)
    const story = (await daemon.deputy('explain', String(body['correlation_id']))).out
    expect(story).toContain(`names ${issuer.url}, the tenant's file ${issuer.url}/`)
  })

  it('fault 23: each listener says in its metadata what it does, and client libraries take it', async () => {
    const insecure = { [oauth.allowInsecureRequests]: true }
    const read = async (url: string, algorithm: 'oauth2' | 'oidc'): Promise<oauth.AuthorizationServer> =>
      oauth.processDiscoveryResponse(
        new URL(url),
        await oauth.discoveryRequest(new URL(url), { ...insecure, algorithm }),
      )
    const [open, local] = [`http://127.0.0.1:${daemon.port}`, `http://127.0.0.1:${port}`]
    for (const algorithm of ['oauth2', 'oidc'] as const) {
      const there = await read(open, algorithm)
      expect([there.issuer, there.jwks_uri]).toEqual([open, `${open}/.well-known/jwks.json`])
      for (const endpoint of ['token_endpoint', 'introspection_endpoint', 'revocation_endpoint'])
        expect([endpoint, there[endpoint]]).toEqual([endpoint, undefined])
      const here = await read(local, algorithm)
      expect(here.token_endpoint_auth_methods_supported).not.toContain('none')
      // Whatever it names is there: nothing is a page, or a grant that is not supported.
      for (const endpoint of [here.token_endpoint, here.introspection_endpoint, here.revocation_endpoint]) {
        expect(endpoint).toMatch(local)
        const response = await fetch(endpoint!, {
          method: 'POST',
          body: new URLSearchParams({ grant_type: 'client_credentials', token: 't' }),
        })
        expect([response.status, ((await response.json()) as { error: string }).error]).toEqual([401, 'invalid_client'])
      }
    }
    const configuration = await openid.discovery(
      new URL(local),
      'agent',
      undefined,
      openid.PrivateKeyJwt({
        key: (await importJWK(key.privateKey.export({ format: 'jwk' }), 'ES256')) as openid.CryptoKey,
        kid: 'key',
      }),
      { execute: [openid.allowInsecureRequests] },
    )
    expect(
      await openid.clientCredentialsGrant(configuration, { audience: 'ledger', scope: 'ledger:read' }),
    ).toMatchObject({
      token_type: 'bearer',
      scope: 'ledger:read',
    })
    await openid.discovery(new URL(open), 'agent', undefined, openid.None(), {
      execute: [openid.allowInsecureRequests],
    })
    // Over the socket a client reaches the issuer by its own name.
    const { body } = await ask(daemon, { path: '/.well-known/oauth-authorization-server' })
    expect([body['issuer'], body['token_endpoint']]).toEqual([open, `${open}/oauth2/token`])
    expect(body['token_endpoint_auth_methods_supported']).toContain('none')
  })
})
