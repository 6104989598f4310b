import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { downstreamSchema, type DownstreamOf } from '../../src/config/downstream.ts'
import { providerSchema } from '../../src/config/provider.ts'
import { createProviderClients } from '../../src/credentials/provider/client.ts'
import { createEgress } from '../../src/foundation/outbound/fetch.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { someProofs } from '../support/proofs.ts'
import { aSnapshot } from '../support/snapshot.ts'

let metadata: Record<string, unknown> = {}
let path: string | undefined
const server = createServer((request, response) => {
  if (path !== undefined && request.url !== path) response.writeHead(404).end()
  else response.setHeader('content-type', 'application/json').end(JSON.stringify(metadata))
})
let url: string
const egress = createEgress({ allowLoopback: true, allowPrivate: [], timeout: 2000 })
beforeAll(async () => {
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(async () => {
  server.close()
  await egress.close()
})

const downstream = downstreamSchema.parse({
  downstream: 'd',
  credential: 'oauth_grant',
  provider: 'p',
  client: { client_id: 'c', client_secret: { secret: 's' } },
}) as DownstreamOf<'oauth_grant'>
const clientOf = async (
  published: Record<string, unknown>,
  { at = undefined as string | undefined, file = {}, of = downstream, tenant = 'acme' } = {},
): Promise<string> => {
  path = at
  metadata = {
    issuer: url,
    authorization_endpoint: `${url}/authorize`,
    token_endpoint: `${url}/token`,
    response_types_supported: ['code'],
    code_challenge_methods_supported: ['S256'],
    ...published,
  }
  const snapshot = {
    ...aSnapshot({ settings: { network: { allow_loopback: true } } }),
    providers: new Map([
      ['p', providerSchema.parse({ provider: 'p', name: 'P', issuer: url, discovery: true, ...file })],
    ]),
  }
  const clients = createProviderClients({
    snapshot: () => snapshot,
    egress,
    ...someProofs(),
    resolveSecret: () => Promise.resolve(new Secret('s')),
  })
  return clients(of, tenant).then(
    ({ server: found }) => `used ${found.authorization_endpoint}`,
    (error: { code: string }) => error.code,
  )
}

describe('what a provider publishes about itself', () => {
  it('is used when it is in order', async () => {
    expect(await clientOf({})).toBe(`used ${url}/authorize`)
  })

  it('threat 5: an authorization endpoint that is no http or https URL is never used', async () => {
    for (const endpoint of [
      'javascript:alert(1)',
      'file:///etc/passwd',
      'a:$(calc.exe)?response_type=code',
      'vscode://x',
      'JaVaScRiPt:1',
      '/relative',
      '',
      7,
      null,
    ]) {
      expect([endpoint, await clientOf({ authorization_endpoint: endpoint })]).toEqual([endpoint, 'provider_refused'])
    }
    for (const endpoint of ['javascript:alert(1)', 'file:///token'])
      expect(await clientOf({ token_endpoint: endpoint })).toBe('provider_refused')
  })

  it('threat 5: the same holds for a provider file', () => {
    for (const endpoint of [
      'javascript:alert(1)',
      'file:///etc/passwd',
      'http://user:secret@idp.example/',
      'https://idp.example/#x',
    ]) {
      expect(
        providerSchema.safeParse({
          provider: 'p',
          name: 'P',
          authorization_endpoint: endpoint,
          token_endpoint: 'https://idp.example/token',
        }).success,
      ).toBe(false)
    }
  })

  it('threat 9: without S256 in its metadata nothing is begun, and plain is not enough', async () => {
    for (const methods of [undefined, [], ['plain'], 'S256', ['s256']])
      expect([methods, await clientOf({ code_challenge_methods_supported: methods })]).toEqual([
        methods,
        'provider_refused',
      ])
  })

  it('is read where RFC 8414 has it, if there is no OpenID document; an endpoint that the file names is used as it stands there', async () => {
    expect(
      await clientOf(
        {},
        {
          at: '/.well-known/oauth-authorization-server',
          file: { authorization_endpoint: 'https://own.example/authorize' },
        },
      ),
    ).toBe('used https://own.example/authorize')
    expect(await clientOf({}, { at: '/elsewhere' })).toBe('provider_unavailable')
  })

  it('requirement 1: a client that is known by its document is no use where the provider does not say that it reads such documents', async () => {
    const of = { ...downstream, client: { client_id: 'http://127.0.0.1:7880/clients/notes', variables: {} } }
    expect(await clientOf({}, { of, file: { client_authentication: 'private_key_jwt' } })).toBe('provider_refused')
    expect(
      await clientOf(
        { client_id_metadata_document_supported: true },
        { of, file: { client_authentication: 'private_key_jwt' } },
      ),
    ).toMatch(/^used/)
  })

  it('threat 24: a tenant whose name every object has is one like any other', async () => {
    expect(await clientOf({}, { tenant: 'constructor' })).toMatch(/^used/)
  })

  it('threat 7: metadata that names another issuer is refused', async () => {
    expect(await clientOf({ issuer: 'https://evil.example' })).not.toMatch(/^used/)
  })
})
