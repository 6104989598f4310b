import { decodeJwt } from 'jose'
import { afterEach, describe, expect, it } from 'vitest'
import { createIdentityTokens } from '../../src/flows/connect/identity-tokens.ts'
import { downstreamSchema } from '../../src/config/downstream.ts'
import { providerSchema } from '../../src/config/provider.ts'
import type { CredentialRequest } from '../../src/credentials/connector/connector.ts'
import { createIdJagConnector } from '../../src/credentials/connector/token-endpoint/id-jag.ts'
import { createProviderCalls } from '../../src/credentials/provider/call.ts'
import { createProviderClients } from '../../src/credentials/provider/client.ts'
import { createIdentityProviders } from '../../src/credentials/provider/identity-provider.ts'
import { createTokenRequests } from '../../src/credentials/connector/token-endpoint/token-request.ts'
import { createFingerprint } from '../../src/foundation/crypto/fingerprint.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createEgress } from '../../src/foundation/outbound/fetch.ts'
import { noTelemetry } from '../../src/foundation/telemetry/telemetry.ts'
import { RevocationIndex } from '../../src/identity/validity/revocation-index.ts'
import type { IdentityToken } from '../../src/foundation/store/records/identity-tokens.ts'
import type { Revocation } from '../../src/foundation/store/records/revocations.ts'
import { describeConnector, type ConnectorPlace } from '../conformance/connector.ts'
import { startAuthorizationServer, type AuthorizationServerDouble } from '../doubles/authorization-server.ts'
import { startIdentityProvider, type IdentityProviderDouble } from '../doubles/identity-provider.ts'
import { someProofs } from '../support/proofs.ts'
import { aServer, aSnapshot, aTenant } from '../support/snapshot.ts'

const RESOURCE = 'https://orders.example/mcp'
interface Place extends ConnectorPlace {
  readonly idp: IdentityProviderDouble
  readonly server: AuthorizationServerDouble
  readonly kept: Map<string, IdentityToken>
  signIn(token: string): Promise<void>
  revoke(): void
}

/** The connector as the daemon builds it, for a user who has signed in, at a strict identity provider and a strict authorization server. */
const aPlace =
  (given: { signIn?: object; provider?: object } = {}) =>
  async (): Promise<Place> => {
    const server = await startAuthorizationServer()
    const idp = await startIdentityProvider({
      key: server.assertionKey,
      audience: server.url,
      clientId: server.client.id,
      resource: RESOURCE,
    })
    const egress = createEgress({ allowLoopback: true, allowPrivate: [], timeout: 2000 })
    const clock = { now: () => Date.now() }
    const secrets: Record<string, string> = { secret: server.client.secret, idp: idp.client.secret }
    const downstream = downstreamSchema.parse({
      downstream: 'orders',
      credential: 'id_jag',
      provider: 'login',
      client: { client_id: server.client.id, client_secret: { secret: 'secret' } },
      resource: RESOURCE,
      scopes: { read: 'Read', write: 'Write' },
    })
    const provider = providerSchema.parse({
      provider: 'login',
      name: 'Login',
      issuer: server.url,
      token_endpoint: `${server.url}/token`,
      ...given.provider,
    })
    const tenant = aTenant({
      issuers: [{ issuer: idp.url }],
      sign_in: { issuer: idp.url, client_id: idp.client.id, client_secret: { secret: 'idp' }, ...given.signIn },
    })
    const current = {
      ...aSnapshot({ tenants: [tenant], settings: { network: { allow_loopback: true } } }),
      downstreams: new Map([['orders', downstream]]),
      providers: new Map([['login', provider]]),
    }
    const snapshot = () => current
    const resolveSecret = (reference: object): Promise<Secret> =>
      Promise.resolve(new Secret(secrets[(reference as { secret: string }).secret]!))
    const call = createProviderCalls({ telemetry: noTelemetry, clock })
    const clients = createProviderClients({ snapshot, egress, ...someProofs(), resolveSecret })
    const kept = new Map<string, IdentityToken>()
    const revocationIndex = new RevocationIndex([], [])
    const identityTokens = createIdentityTokens({
      snapshot,
      clock,
      revocationIndex,
      fingerprint: createFingerprint(new Secret(Buffer.alloc(32, 7).toString('base64'))),
      envelope: {
        seal: (name, text) => Promise.resolve(Buffer.from(JSON.stringify([name, text.reveal()]))),
        open: (_, sealed) =>
          Promise.resolve(new Secret((JSON.parse(Buffer.from(sealed).toString('utf8')) as [object, string])[1])),
        destroy: () => Promise.resolve(),
      },
      store: {
        find: ({ tenant: of, user }, now) => {
          const found = kept.get(`${of} ${user}`)
          return Promise.resolve(found !== undefined && found.expiresAt > now ? found : undefined)
        },
        put: (token) => {
          kept.set(`${token.tenant} ${token.user}`, token)
          return Promise.resolve()
        },
        remove: () => {
          kept.clear()
          return Promise.resolve(0)
        },
        sweep: () => Promise.resolve(0),
      },
    })
    const signIn = (token: string): Promise<void> =>
      identityTokens.keep({ tenant: 'acme', user: String(decodeJwt(token).sub), issuer: idp.url }, new Secret(token))
    const idToken = await idp.idToken({ sub: 'alice' })
    await signIn(idToken)
    return {
      server,
      idp,
      kept,
      signIn,
      spoil: (answer) => {
        server.spoil.push(answer)
      },
      given: () => String(server.issued.at(-1)?.['scope']).split(' '),
      revoke: () => {
        revocationIndex.add({
          id: 'r',
          scope: { kind: 'user', tenant: 'acme', user: 'alice' },
          epoch: Date.now() + 1,
          by: 'admin',
          reason: null,
          forgetAt: null,
        } satisfies Revocation)
      },
      connector: createIdJagConnector({
        identityToken: identityTokens.find,
        clients,
        call,
        clock,
        identityProviders: createIdentityProviders({ snapshot, egress, resolveSecret }),
        requestToken: createTokenRequests({ clients, call, clock }),
        connectUrl: () => Promise.resolve('https://deputy.example/connect/link'),
      }),
      request: (over: Partial<CredentialRequest> = {}) => ({
        principal: { kind: 'user', tenant: 'acme', user: 'alice' },
        tenant,
        server: aServer(),
        downstream,
        scopes: ['read'],
        notAfter: Infinity,
        audiences: [RESOURCE],
        priorActors: [],
        ancestors: ['t'],
        correlationId: 'c',
        ...over,
      }),
      secrets: () => [...Object.values(secrets), idToken],
      now: () => clock.now(),
      async close() {
        await egress.close()
        await idp.close()
        await server.close()
      },
    }
  }

describeConnector('id_jag', aPlace(), { knowsUsers: false })

describe('an identity assertion', () => {
  let place: Place | undefined
  afterEach(async () => {
    await place?.close()
    place = undefined
  })
  const at = async (...args: Parameters<typeof aPlace>): Promise<Place> => (place = await aPlace(...args)())
  const refusal = (work: Promise<unknown>): Promise<{ code: string; message: string; facts: object }> =>
    work.then(
      () => {
        throw new Error('it was obtained')
      },
      (error: { code: string; message: string; facts: object }) => error,
    )

  it('requirement 16: the ID token is exchanged for an assertion that names the server, client and service', async () => {
    const { connector, request, idp } = await at()
    await connector.obtain(request())
    expect(idp.requests).toEqual([
      {
        grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
        requested_token_type: 'urn:ietf:params:oauth:token-type:id-jag',
        audience: place!.server.url,
        resource: RESOURCE,
        scope: 'read',
        subject_token: expect.any(String) as string,
        subject_token_type: 'urn:ietf:params:oauth:token-type:id_token',
      },
    ])
  })

  it('requirement 17: the assertion is redeemed with the other client, and each is used once', async () => {
    const { connector, request, server } = await at()
    const credential = await connector.obtain(request())
    await connector.obtain(request())
    expect(server.requests.map((each) => each['grant_type'])).toEqual(
      Array(2).fill('urn:ietf:params:oauth:grant-type:jwt-bearer'),
    )
    expect(new Set(server.requests.map((each) => decodeJwt(each['assertion']!).jti)).size).toBe(2)
    expect(decodeJwt(credential.token.reveal())).toMatchObject({ sub: 'alice', aud: RESOURCE })
  })

  const WRONG: readonly [string, NonNullable<IdentityProviderDouble['spoil']>][] = [
    ['another type of JWT', { header: { typ: 'JWT' } }],
    ['another issuer', { claims: { iss: 'https://evil.example' } }],
    ['another server', { claims: { aud: 'https://evil.example' } }],
    ['two audiences', { claims: { aud: ['https://evil.example', 'x'] } }],
    ['another client', { claims: { client_id: 'evil' } }],
    ['another service', { claims: { resource: 'https://evil.example' } }],
    ['no service', { claims: { resource: undefined } }],
    ['an end in the past', { claims: { exp: 1 } }],
    ['no jti', { claims: { jti: undefined } }],
    ['more scopes', { claims: { scope: 'read admin' } }],
    ['a bearer token', { answer: { token_type: 'Bearer' } }],
    ['another issued type', { answer: { issued_token_type: 'urn:ietf:params:oauth:token-type:access_token' } }],
  ]
  it.each(WRONG)('requirement 16: an assertion with %s goes on to nobody', async (_, spoil) => {
    const { connector, request, idp, server } = await at()
    idp.spoil = spoil
    const error = await refusal(connector.obtain(request()))
    expect(error.code).toBe('provider_refused')
    expect(`${error.message}${JSON.stringify(error.facts)}`).not.toContain('eyJ')
    expect(server.requests).toEqual([])
    expect((await connector.obtain(request())).scopes).toEqual(['read'])
  })

  it('a user who has not signed in, or whose sign-in has ended, is sent to the page for that, and nobody is asked', async () => {
    const { connector, request, idp, kept, signIn } = await at()
    kept.clear()
    expect(await refusal(connector.obtain(request()))).toMatchObject({
      code: 'interaction_required',
      facts: { connect_url: 'https://deputy.example/connect/link' },
    })
    await signIn(await idp.idToken({ sub: 'alice' }, '-1s'))
    expect(await refusal(connector.obtain(request()))).toMatchObject({ code: 'interaction_required' })
    await signIn(await idp.idToken({ sub: 'bob' }))
    expect(await refusal(connector.obtain(request()))).toMatchObject({ code: 'interaction_required' })
    expect(idp.requests).toEqual([])
  })

  it('an ID token that the identity provider takes no more is one for a new sign-in', async () => {
    const { connector, request, idp, signIn } = await at()
    await signIn(await idp.idToken({ sub: 'alice', aud: 'another-client' }))
    expect(await refusal(connector.obtain(request()))).toMatchObject({
      code: 'reconnect_required',
      facts: { problem: 'invalid_grant: the ID token', connect_url: 'https://deputy.example/connect/link' },
    })
  })

  it('promise 4: a sign-in from before a revocation of the user is not used, also while it is still kept, and not kept any more', async () => {
    const { connector, request, idp, signIn, revoke, kept } = await at()
    const before = await idp.idToken({ sub: 'alice' })
    revoke()
    expect(await refusal(connector.obtain(request()))).toMatchObject({ code: 'interaction_required' })
    expect(kept.size).toBe(1)
    kept.clear()
    expect(await refusal(signIn(before))).toMatchObject({ code: 'revoked' })
    expect([kept.size, idp.requests]).toEqual([0, []])
  })

  it('requirement 16: both clients authenticate, or nothing is asked', async () => {
    const without = await at({ signIn: { client_secret: undefined } })
    expect(await refusal(without.connector.obtain(without.request()))).toMatchObject({ code: 'provider_refused' })
    await without.close()
    const open = await at({ provider: { client_authentication: 'none' } })
    expect(await refusal(open.connector.obtain(open.request()))).toMatchObject({ code: 'provider_refused' })
    expect([...without.idp.requests, ...open.idp.requests]).toEqual([])
  })

  it('threat 12: a server that asks for itself gets none', async () => {
    const { connector, request } = await at()
    expect(
      await refusal(connector.obtain(request({ principal: { kind: 'workload', tenant: 'acme', server: 'notes' } }))),
    ).toMatchObject({ code: 'target_unknown' })
  })
})
