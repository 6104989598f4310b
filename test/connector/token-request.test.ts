import { createPrivateKey } from 'node:crypto'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { downstreamSchema, type DownstreamOf } from '../../src/config/downstream.ts'
import { providerSchema } from '../../src/config/provider.ts'
import { createClientCredentialsConnector } from '../../src/credentials/connector/token-endpoint/client-credentials.ts'
import type { Connector, CredentialRequest } from '../../src/credentials/connector/connector.ts'
import { ACCESS_TOKEN_TYPE } from '../../src/oauth/token-type.ts'
import { createEntraOnBehalfOfConnector } from '../../src/credentials/connector/token-endpoint/entra-obo.ts'
import { createJwtBearerConnector } from '../../src/credentials/connector/token-endpoint/jwt-bearer.ts'
import { createProviderCalls } from '../../src/credentials/provider/call.ts'
import { createProviderClients } from '../../src/credentials/provider/client.ts'
import { createTokenRequests } from '../../src/credentials/connector/token-endpoint/token-request.ts'
import { createSamlBearerConnector } from '../../src/credentials/connector/token-endpoint/saml-bearer.ts'
import { createTokenExchangeConnector } from '../../src/credentials/connector/token-endpoint/token-exchange.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createEgress } from '../../src/foundation/outbound/fetch.ts'
import { noTelemetry } from '../../src/foundation/telemetry/telemetry.ts'
import { describeConnector, type ConnectorPlace } from '../conformance/connector.ts'
import { startAuthorizationServer, type AuthorizationServerDouble } from '../doubles/authorization-server.ts'
import { aSamlSigner } from '../doubles/saml-bearer.ts'
import { someProofs } from '../support/proofs.ts'
import { aServer, aSnapshot, aTenant } from '../support/snapshot.ts'

const RESOURCE = 'https://orders.example/api'
type Kind = 'client_credentials' | 'token_exchange' | 'entra_obo' | 'jwt_bearer' | 'saml_bearer'
interface Place extends ConnectorPlace {
  readonly server: AuthorizationServerDouble
}

/** A connector as the daemon builds it, at a strict authorization server. */
const aPlace =
  (
    kind: Kind,
    given: { downstream?: object; provider?: object; client?: object; secrets?: Readonly<Record<string, string>> } = {},
  ) =>
  async (): Promise<Place> => {
    const server = await startAuthorizationServer()
    const egress = createEgress({ allowLoopback: true, allowPrivate: [], timeout: 2000 })
    const clock = { now: () => Date.now() }
    const random = createSystemRandom()
    const secrets: Record<string, string> = {
      secret: server.client.secret,
      key: JSON.stringify(server.clientKey),
      assertion: JSON.stringify(server.assertionKey),
      saml: server.samlSigner.key,
      certificate: server.samlSigner.certificate,
      ...given.secrets,
    }
    const downstream = downstreamSchema.parse({
      downstream: 'orders',
      credential: kind,
      provider: 'login',
      client: { client_id: server.client.id, client_secret: { secret: 'secret' }, ...given.client },
      resource: RESOURCE,
      scopes: { read: 'Read', write: 'Write' },
      ...(kind === 'jwt_bearer'
        ? { assertion: { key: { secret: 'assertion' } } }
        : kind === 'saml_bearer'
          ? { assertion: { key: { secret: 'saml' } } }
          : {}),
      ...given.downstream,
    })
    const provider = providerSchema.parse({
      provider: 'login',
      name: 'Login',
      issuer: server.url,
      token_endpoint: `${server.url}/token`,
      ...given.provider,
    })
    const snapshot = {
      ...aSnapshot({ settings: { network: { allow_loopback: true } } }),
      downstreams: new Map([['orders', downstream]]),
      providers: new Map([['login', provider]]),
    }
    const resolveSecret = (reference: object): Promise<Secret> =>
      Promise.resolve(new Secret(secrets[(reference as { secret: string }).secret]!))
    const clients = createProviderClients({ snapshot: () => snapshot, egress, ...someProofs(), resolveSecret })
    const requestToken = createTokenRequests({
      clients,
      call: createProviderCalls({ telemetry: noTelemetry, clock: { now: () => Date.now() } }),
      clock,
    })
    const connectors: Readonly<Record<Kind, () => Connector>> = {
      client_credentials: () => createClientCredentialsConnector({ requestToken }),
      token_exchange: () => createTokenExchangeConnector({ requestToken, clock }),
      entra_obo: () => createEntraOnBehalfOfConnector({ requestToken }),
      jwt_bearer: () => createJwtBearerConnector({ requestToken, clients, resolveSecret, clock, random }),
      saml_bearer: () => createSamlBearerConnector({ requestToken, resolveSecret, clock, random }),
    }
    const userToken = await server.userToken({
      sub: 'alice',
      ...(kind === 'entra_obo' ? { aud: server.client.id } : {}),
    })
    const request = (over: Partial<CredentialRequest> = {}): CredentialRequest => ({
      principal: { kind: 'user', tenant: 'acme', user: 'alice' },
      tenant: aTenant(),
      server: aServer(),
      downstream,
      scopes: ['read'],
      notAfter: Infinity,
      audiences: [RESOURCE],
      priorActors: [],
      ancestors: ['t'],
      correlationId: 'c',
      ...(kind === 'token_exchange' || kind === 'entra_obo'
        ? { subjectToken: { token: new Secret(userToken), type: ACCESS_TOKEN_TYPE, issuer: 'https://login.example' } }
        : {}),
      ...over,
    })
    const prefix = (downstream as DownstreamOf<Kind>).scope_prefix
    return {
      server,
      connector: connectors[kind](),
      request,
      spoil: (answer) => {
        server.spoil.push(answer)
      },
      given: () =>
        String(server.issued.at(-1)?.['scope'])
          .split(' ')
          .map((scope) => scope.replace(prefix, '')),
      secrets: () => [...Object.values(secrets), userToken, String(server.clientKey.d), String(server.assertionKey.d)],
      now: () => clock.now(),
      async close() {
        await egress.close()
        await server.close()
      },
    }
  }

describeConnector('client_credentials', aPlace('client_credentials'), { knowsUsers: false })
describeConnector('token_exchange', aPlace('token_exchange'), { knowsUsers: true })
describeConnector(
  'entra_obo',
  aPlace('entra_obo', { downstream: { resource: undefined, scope_prefix: 'api://orders/' } }),
  { knowsUsers: false },
)
describeConnector('jwt_bearer', aPlace('jwt_bearer'), { knowsUsers: false })
describeConnector(
  'jwt_bearer with its scopes in the assertion',
  aPlace('jwt_bearer', {
    downstream: { assertion: { key: { secret: 'assertion' }, scope: 'claim', subject: { suffix: '@example.com' } } },
  }),
  { knowsUsers: false },
)
describeConnector('saml_bearer', aPlace('saml_bearer'), { knowsUsers: false })
describeConnector(
  'client_credentials by private_key_jwt',
  aPlace('client_credentials', {
    client: { client_secret: undefined, private_key: { secret: 'key' } },
    provider: { client_authentication: 'private_key_jwt' },
  }),
  { knowsUsers: false },
)

describeConnector(
  'client_credentials with tokens that are bound',
  aPlace('client_credentials', { provider: { dpop: 'required' } }),
  { knowsUsers: false },
)

describe('a token request', () => {
  let place: Place | undefined
  beforeEach(() => {
    place = undefined
  })
  afterEach(async () => {
    await place?.close()
  })
  const at = async (...args: Parameters<typeof aPlace>): Promise<Place> => (place = await aPlace(...args)())
  const codeOf = (work: Promise<unknown>): Promise<string> =>
    work.then(
      () => 'obtained',
      (error: { code: string }) => error.code,
    )

  it('requirement 18: an exchange names the token, its type and the resource, once each; without an actor no actor is named', async () => {
    const { server, connector, request } = await at('token_exchange')
    await connector.obtain(request())
    expect(server.requests).toEqual([
      {
        grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
        subject_token: expect.any(String) as string,
        subject_token_type: ACCESS_TOKEN_TYPE,
        scope: 'read',
        resource: RESOURCE,
      },
    ])
  })

  it('requirement 20: with an actor the service sees who acts, and Deputy asks for its own token once', async () => {
    const { server, connector, request } = await at('token_exchange', { downstream: { actor: 'client' } })
    await connector.obtain(request())
    await connector.obtain(request({ scopes: ['write'] }))
    expect(server.requests.map((each) => each['grant_type']!.split(':').at(-1))).toEqual([
      'client_credentials',
      'token-exchange',
      'token-exchange',
    ])
    expect(server.issued.at(-1)).toMatchObject({ sub: 'alice', act: { sub: 'deputy' } })
  })

  it('threat 12: a user without a token, by a login session, is refused and never replaced by Deputy itself', async () => {
    for (const kind of ['token_exchange', 'entra_obo'] as const) {
      const each = await aPlace(kind)()
      const { subjectToken: _, ...without } = each.request()
      expect([kind, await codeOf(each.connector.obtain(without))]).toEqual([kind, 'subject_token_invalid'])
      expect(each.server.requests).toEqual([])
      await each.close()
    }
  })

  it('requirement 39: on-behalf-of wants the assertion to be for the client, and says so', async () => {
    const { server, connector, request } = await at('entra_obo', {
      downstream: { resource: undefined, scope_prefix: 'api://orders/' },
    })
    const foreign = new Secret(await server.userToken({ sub: 'alice', aud: 'somebody-else' }))
    const error = await connector
      .obtain(request({ subjectToken: { token: foreign, type: ACCESS_TOKEN_TYPE, issuer: 'https://login.example' } }))
      .catch((thrown: Error) => thrown)
    expect(error).toMatchObject({
      code: 'provider_refused',
      message: expect.stringContaining('AADSTS500131') as string,
    })
    await connector.obtain(request({ scopes: ['read', 'write'] }))
    expect(server.requests.at(-1)).toMatchObject({
      requested_token_use: 'on_behalf_of',
      scope: 'api://orders/read api://orders/write',
    })
  })

  it('requirement 22: a client assertion is for the issuer alone, or for the token endpoint where the provider wants that; with a certificate it names it', async () => {
    const client = { client_secret: undefined, private_key: { secret: 'key' } }
    const { server, connector, request } = await at('client_credentials', {
      client,
      provider: { client_authentication: 'private_key_jwt' },
    })
    await connector.obtain(request())
    expect(decodeJwt(server.requests[0]!['client_assertion']!)).toMatchObject({
      iss: 'deputy',
      sub: 'deputy',
      aud: server.url,
    })
    await server.close()
    const other = await at('client_credentials', {
      client,
      provider: { client_authentication: 'private_key_jwt', client_assertion_audience: 'token_endpoint' },
    })
    await other.connector.obtain(other.request())
    expect(decodeJwt(other.server.requests[0]!['client_assertion']!).aud).toBe(`${other.server.url}/token`)
  })

  it('requirement 23: proves a key of its own, with the nonce that the server wants, which is remembered', async () => {
    const { server, connector, request } = await at('client_credentials', {
      client: { client_secret: undefined, private_key: { secret: 'key' } },
      provider: { dpop: 'required', client_authentication: 'private_key_jwt' },
    })
    server.binding.nonce = 'first'
    const one = await connector.obtain(request())
    expect(one).toMatchObject({
      tokenType: 'DPoP',
      proofKey: { jkt: (server.issued[0]!['cnf'] as { jkt: string }).jkt },
    })
    expect(server.proofs).toMatchObject([{ htm: 'POST', htu: `${server.url}/token` }, { nonce: 'first' }])
    expect(server.proofs[0]!['nonce']).toBeUndefined()
    const other = await connector.obtain(request({ scopes: ['write'] }))
    expect(server.proofs.slice(2)).toMatchObject([{ nonce: 'first' }])
    expect(other.proofKey?.jkt).not.toBe(one.proofKey?.jkt)
  })

  it('requirement 23: is sent again for a nonce once, and no more', async () => {
    const { server, connector, request } = await at('client_credentials', { provider: { dpop: 'required' } })
    Object.defineProperty(server.binding, 'nonce', {
      get: () => `never the same ${server.proofs.length}`.replaceAll(' ', '-'),
    })
    expect(await codeOf(connector.obtain(request()))).toBe('provider_refused')
    expect(server.proofs).toHaveLength(2)
  })

  for (const answers of ['bearer', 'another key', 'no key'] as const) {
    it(`requirement 23: binding that is required is not given up: an answer with ${answers === 'bearer' ? 'a bearer token' : answers} is refused`, async () => {
      const { server, connector, request } = await at('client_credentials', { provider: { dpop: 'required' } })
      server.binding.answers = answers
      expect(await codeOf(connector.obtain(request()))).toBe('provider_refused')
      expect(server.requests).toHaveLength(1)
    })
  }

  it('requirement 23: where binding is offered, it is asked for what the proxy alone may use, and an answer without it is taken', async () => {
    const inject = {
      hosts: ['https://orders.example'],
      as: { header: 'Authorization', value: 'Bearer {credential}' },
      only: true,
    }
    const open = await at('client_credentials', { provider: { dpop: 'offered' } })
    expect(await open.connector.obtain(open.request())).toMatchObject({ tokenType: 'Bearer' })
    expect(open.server.proofs).toEqual([])
    await open.close()
    const { server, connector, request } = await at('client_credentials', {
      provider: { dpop: 'offered' },
      downstream: { inject },
    })
    expect(await connector.obtain(request())).toMatchObject({ tokenType: 'DPoP' })
    server.binding.answers = 'bearer'
    const bearer = await connector.obtain(request())
    expect([bearer.tokenType, bearer.proofKey]).toEqual(['Bearer', undefined])
  })

  describe("a provider's own JWT is read whatever its header says", () => {
    const provider = { issuer: 'https://login.example' }
    const outcome = async (
      untidy: AuthorizationServerDouble['untidy'],
      given: Parameters<typeof aPlace>[1] = {},
      over: Partial<CredentialRequest> = {},
    ): Promise<string> => {
      const place = await aPlace('token_exchange', { provider, ...given })()
      Object.assign(place.server.untidy, { typ: 'JWT', ...untidy })
      try {
        return await codeOf(place.connector.obtain(place.request(over)))
      } finally {
        await place.close()
      }
    }

    it('fault 62, promise 2: a token for another service is refused, unless the file knows the name', async () => {
      const account = { claims: { aud: 'account' } }
      expect([
        await outcome({}),
        await outcome(account),
        await outcome(
          { claims: { aud: ['account', 'orders-client'] } },
          { downstream: { token_audiences: ['orders-client'] } },
        ),
        await outcome(account, { downstream: { audience: 'account' } }),
        // Without a resource the audience is what was asked for.
        await outcome(account, { downstream: { resource: undefined, audience: 'orders-client' } }),
        await outcome(
          { claims: { aud: 'orders-client' } },
          { downstream: { resource: undefined, audience: 'orders-client' } },
        ),
        await outcome(account, { downstream: { resource: undefined } }),
        // That of another issuer is for its service to read.
        await outcome({ claims: { aud: 'account', iss: 'https://other.example' } }),
        await outcome({ claims: { aud: undefined } }),
      ]).toEqual([
        'obtained',
        'provider_refused',
        'obtained',
        'obtained',
        'provider_refused',
        'obtained',
        'obtained',
        'obtained',
        'obtained',
      ])
    })

    it('promise 9: claims of another form than a token has are refused, and are no fault of the daemon', async () => {
      const byName = aTenant({
        issuers: [{ issuer: 'https://login.example', claims: { user: 'preferred_username' } }],
      })
      const odd = { toString: 1, valueOf: 2 }
      expect([
        await outcome({ claims: { aud: [odd] } }),
        await outcome({ claims: { aud: odd } }),
        await outcome({ claims: { aud: [[['https://orders.example']]] } }),
        await outcome({ claims: { preferred_username: odd } }, {}, { tenant: byName }),
        await outcome({ claims: { preferred_username: ['alice'] } }, {}, { tenant: byName }),
      ]).toEqual(Array.from({ length: 5 }, () => 'provider_refused'))
    })

    it('fault 62: an actor that the file promises is in the token, or it is refused', async () => {
      const downstream = { actor: 'client' }
      expect([
        await outcome({}, { downstream }),
        await outcome({ claims: { act: undefined } }, { downstream }),
        await outcome({ claims: { act: 'deputy' } }, { downstream }),
        await outcome({ claims: { act: undefined } }),
        await outcome({ typ: 'at+jwt', claims: { act: undefined } }, { downstream }),
      ]).toEqual(['obtained', 'provider_refused', 'provider_refused', 'obtained', 'provider_refused'])
    })

    it('fault 62: a bearer token that is bound to a key after all is refused', async () => {
      expect([
        await outcome({ claims: { cnf: { jkt: 'another' } } }),
        await outcome({ claims: { cnf: { 'x5t#S256': 'another' } } }),
        await outcome({ claims: { cnf: null } }),
      ]).toEqual(['provider_refused', 'provider_refused', 'obtained'])
    })

    it('fault 62: a token for another user is refused, by the claim that names users in the file of the tenant', async () => {
      const byName = aTenant({
        issuers: [{ issuer: 'https://login.example', claims: { user: 'preferred_username' } }],
      })
      const named = { claims: { sub: '9b180dde', preferred_username: 'alice' } }
      expect([
        await outcome({ claims: { sub: 'mallory' } }),
        await outcome(named, {}, { tenant: byName }),
        await outcome({ claims: { preferred_username: 'mallory' } }, {}, { tenant: byName }),
        // The claim is not in tokens for that service: the `sub` of the user's own token counts.
        await outcome({}, {}, { tenant: byName }),
        await outcome({ claims: { sub: 'mallory' } }, {}, { tenant: byName }),
      ]).toEqual(['provider_refused', 'obtained', 'provider_refused', 'obtained', 'provider_refused'])
    })

    it("fault 69: a server that does not take the user's token wants the user to sign in, and one that wants another audience wants an admin", async () => {
      const refused = (error: string, error_description: string, status = 400): Promise<string> =>
        outcome({ refusal: { status, error, error_description } })
      expect([
        await refused('invalid_request', 'Invalid token'),
        await refused('invalid_request', 'The subject_token has expired'),
        await refused('invalid_grant', 'Token is not active'),
        await refused('invalid_token', 'gone'),
        await refused('access_denied', 'Client is not within the token audience', 403),
        await refused('invalid_request', 'Requested audience not available: orders'),
        await refused('invalid_request', 'subject_token_type is missing'),
        await refused('invalid_scope', 'Invalid scopes: read'),
        await refused('unauthorized_client', 'Invalid client or Invalid client credentials', 401),
        await refused('access_denied', 'Realm not enabled', 403),
      ]).toEqual([
        ...Array.from({ length: 4 }, () => 'subject_token_refused'),
        ...Array.from({ length: 6 }, () => 'provider_refused'),
      ])
      const { server, connector, request } = await at('token_exchange', { provider })
      server.untidy.refusal = {
        status: 403,
        error: 'access_denied',
        error_description: 'Client is not within the token audience',
      }
      await expect(connector.obtain(request())).rejects.toThrow(/it wants deputy in aud of the user's token/)
    })
  })

  it('requirement 23: a bound token that nobody asked for is refused', async () => {
    const { server, connector, request } = await at('client_credentials')
    server.binding.answers = 'bound'
    expect(await codeOf(connector.obtain(request()))).toBe('provider_refused')
  })

  it('an over-scoped token is issued and marked only where the file says so', async () => {
    const { server, connector, request } = await at('client_credentials', { downstream: { over_scoped: 'mark' } })
    server.spoil.push('surplus scope')
    expect(await connector.obtain(request())).toMatchObject({ overScoped: true, scopes: ['admin', 'read'] })
  })

  it('a JWT bearer assertion speaks for the user, an account or nobody, as the file says; a server cannot be a user', async () => {
    const subjects = async (subject: unknown): Promise<unknown> => {
      const each = await aPlace('jwt_bearer', {
        downstream: { assertion: { key: { secret: 'assertion' }, ...(subject === undefined ? {} : { subject }) } },
      })()
      try {
        await each.connector.obtain(each.request())
        return decodeJwt(each.server.requests[0]!['assertion']!).sub
      } finally {
        await each.close()
      }
    }
    expect([
      await subjects(undefined),
      await subjects({ suffix: '@acme.example' }),
      await subjects({ text: 'robot' }),
      await subjects('issuer'),
      await subjects('none'),
    ]).toEqual(['alice', 'alice@acme.example', 'robot', 'deputy', undefined])
    const { connector, request } = await at('jwt_bearer')
    expect(
      await codeOf(connector.obtain(request({ principal: { kind: 'workload', tenant: 'acme', server: 'notes' } }))),
    ).toBe('target_unknown')
  })

  it('promise 1: a SAML assertion speaks for the user, an account or its issuer, as the file says, and for nobody else; a server cannot be a user', async () => {
    const subjects = async (subject?: unknown, user = 'alice'): Promise<unknown> => {
      const each = await aPlace('saml_bearer', {
        downstream: { assertion: { key: { secret: 'saml' }, ...(subject === undefined ? {} : { subject }) } },
      })()
      try {
        const { scopes } = await each.connector.obtain(
          each.request({ principal: { kind: 'user', tenant: 'acme', user } }),
        )
        expect([scopes, each.given!()]).toEqual([['read'], ['read']])
        return each.server.issued[0]!.sub
      } finally {
        await each.close()
      }
    }
    expect([
      await subjects(),
      await subjects({ suffix: '@acme.example' }),
      await subjects({ text: 'robot' }),
      await subjects('issuer'),
    ]).toEqual(['alice', 'alice@acme.example', 'robot', 'deputy'])
    const mallory = '</saml:NameID><saml:NameID>alice<!--&amp;'
    expect(await subjects(undefined, mallory)).toBe(mallory)
    const { connector, request, server } = await at('saml_bearer')
    expect(
      await codeOf(connector.obtain(request({ principal: { kind: 'workload', tenant: 'acme', server: 'notes' } }))),
    ).toBe('target_unknown')
    expect(server.requests).toEqual([])
  })

  it('a key of a SAML assertion is one of RSA that is long enough, and a certificate is that of the key; what is wrong is said without what they hold', async () => {
    const other = await aSamlSigner()
    const short = await aSamlSigner(1024)
    const problems = async (assertion: object, secrets: Record<string, string> = {}): Promise<unknown> => {
      const each = await aPlace('saml_bearer', {
        downstream: { assertion: { key: { secret: 'saml' }, ...assertion } },
        secrets,
      })()
      try {
        const error = await each.connector.obtain(each.request()).then(
          () => 'obtained',
          (thrown: Error & { facts: object }) => thrown,
        )
        if (typeof error === 'string') return error
        for (const secret of [...each.secrets(), ...Object.values(secrets)])
          expect(`${error.message} ${JSON.stringify(error.facts)}`).not.toContain(secret)
        return (error.facts as { problem: string }).problem
      } finally {
        await each.close()
      }
    }
    const key = 'the key of the assertion is no RSA key of at least 2048 bits: put one there, as JWK or PEM'
    const certificate = 'the certificate of the assertion is not that of its key: put that one there, as PEM'
    expect([
      await problems({ key: { secret: 'assertion' } }),
      await problems({ key: { secret: 'secret' } }),
      await problems({ key: { secret: 'short' } }, { short: short.key }),
    ]).toEqual([key, key, key])
    expect([
      await problems({ certificate: { secret: 'other' } }, { other: other.certificate }),
      await problems({ certificate: { secret: 'secret' } }),
    ]).toEqual([certificate, certificate])
    expect(await problems({ key: { secret: 'other' } }, { other: other.key })).toBe(
      'invalid_grant: it is not signed by the key of its issuer',
    )
    const jwk = { jwk: JSON.stringify(createPrivateKey(short.key).export({ format: 'jwk' })) }
    expect([
      await problems({ key: { secret: 'jwk' } }, jwk),
      await problems({ certificate: { secret: 'certificate' } }),
    ]).toEqual([key, 'obtained'])
  })

  it('a SAML assertion ends with what it was asked for, and its other words are those of the file', async () => {
    const notAfter = Math.floor(Date.now()) + 90_000
    const assertion = {
      key: { secret: 'saml' },
      attributes: { client_id: 'deputy' },
      name_id_format: 'urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress',
    }
    const { server, connector, request } = await at('saml_bearer', { downstream: { assertion } })
    await connector.obtain(request({ notAfter }))
    const sent = Buffer.from(server.requests[0]!['assertion']!, 'base64url').toString('utf8')
    expect(sent.match(/NotOnOrAfter="[^"]*"/g)).toEqual(
      Array(2).fill(`NotOnOrAfter="${new Date(notAfter).toISOString()}"`),
    )
    expect(sent).toContain(
      '<saml:NameID Format="urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress">alice</saml:NameID>',
    )
    expect(sent).toContain(
      '<saml:Attribute Name="client_id"><saml:AttributeValue>deputy</saml:AttributeValue></saml:Attribute>',
    )
    expect(sent).not.toContain('AuthnStatement')
    const telling = await aPlace('saml_bearer', {
      downstream: {
        assertion: { key: { secret: 'saml' }, authn_context: 'urn:oasis:names:tc:SAML:2.0:ac:classes:Password' },
      },
    })()
    try {
      await telling.connector.obtain(telling.request())
      expect(Buffer.from(telling.server.requests[0]!['assertion']!, 'base64url').toString('utf8')).toContain(
        '<saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password</saml:AuthnContextClassRef>',
      )
    } finally {
      await telling.close()
    }
    expect(server.requests[0]).toEqual({
      grant_type: 'urn:ietf:params:oauth:grant-type:saml2-bearer',
      assertion: expect.not.stringContaining('=') as string,
      scope: 'read',
      resource: RESOURCE,
    })
  })

  it('an audience or an issuer that the service does not expect is refused there, in its words', async () => {
    for (const [assertion, words] of [
      [{ audience: 'https://elsewhere.example' }, 'it is for another audience'],
      [{ issuer: 'somebody' }, 'it is of another issuer'],
    ] as const) {
      const each = await aPlace('saml_bearer', {
        downstream: { assertion: { key: { secret: 'saml' }, ...assertion } },
      })()
      expect(await each.connector.obtain(each.request()).catch((thrown: Error) => thrown)).toMatchObject({
        code: 'provider_refused',
        facts: { problem: `invalid_grant: ${words}` },
      })
      await each.close()
    }
  })

  it('a self-signed assertion is the token, for the service, and nobody is asked', async () => {
    const { server, connector, request } = await at('jwt_bearer', {
      downstream: {
        assertion: {
          key: { secret: 'assertion' },
          self_signed: true,
          audience: 'https://pubsub.example/',
          issuer: 'robot@project.example',
          subject: 'issuer',
          lifetime: '1h',
        },
      },
    })
    const credential = await connector.obtain(request({ notAfter: Date.now() + 60_000 }))
    expect(decodeJwt(credential.token.reveal())).toMatchObject({
      iss: 'robot@project.example',
      sub: 'robot@project.example',
      aud: 'https://pubsub.example/',
    })
    expect(decodeProtectedHeader(credential.token.reveal())).toMatchObject({ alg: 'ES256', kid: 'key' })
    expect(credential.expiresAt).toBeLessThanOrEqual(Date.now() + 60_000)
    expect(server.requests).toEqual([])
  })

  it('a key that is none is said by its name, without what it holds', async () => {
    const { connector, request } = await at('client_credentials', {
      client: { client_secret: undefined, private_key: { secret: 'secret' } },
      provider: { client_authentication: 'private_key_jwt' },
    })
    const error = await connector.obtain(request()).catch((thrown: Error) => thrown)
    expect(error).toMatchObject({ code: 'provider_refused' })
    expect(String(error)).not.toContain('as-client-secret')
  })
})
