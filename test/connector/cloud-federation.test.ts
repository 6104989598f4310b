import { createLocalJWKSet, jwtVerify } from 'jose'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { downstreamSchema } from '../../src/config/downstream.ts'
import { createAzureConnector } from '../../src/credentials/connector/cloud/azure.ts'
import type { CredentialRequest } from '../../src/credentials/connector/connector.ts'
import { createCloudAssertions } from '../../src/credentials/connector/token-endpoint/federated-assertion.ts'
import { createGcpStsConnector } from '../../src/credentials/connector/cloud/gcp-sts.ts'
import { kinds } from '../../src/credentials/connector/kinds.ts'
import { createMintedTokenReader } from '../../src/identity/subject/minted-token.ts'
import { createProviderRequests } from '../../src/credentials/connector/token-endpoint/ask.ts'
import { createProviderCalls } from '../../src/credentials/provider/call.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createEgress } from '../../src/foundation/outbound/fetch.ts'
import { discoveryDocument, publicMetadataDocument } from '../../src/listeners/http/metadata.ts'
import { noTelemetry } from '../../src/foundation/telemetry/telemetry.ts'
import { describeConnector, type ConnectorPlace } from '../conformance/connector.ts'
import { startEntra, type EntraDouble } from '../doubles/entra.ts'
import { startGoogleCloud, type GoogleCloudDouble } from '../doubles/google-cloud.ts'
import { someSigningKeys } from '../support/signing-keys.ts'
import { aServer, aTenant } from '../support/snapshot.ts'

const ISSUER = 'https://deputy.example'
const clock = { now: () => Date.now() }
const SCOPE = 'https://www.googleapis.com/auth/'

const aGround = async () => {
  const keys = await someSigningKeys()
  const egress = createEgress({ allowLoopback: true, allowPrivate: [], timeout: 2000 })
  const assertToCloud = createCloudAssertions({ keys, issuer: () => ISSUER, clock, random: createSystemRandom() })
  return {
    keys,
    egress,
    assertToCloud,
    ask: createProviderRequests({ egress, call: createProviderCalls({ telemetry: noTelemetry, clock }), clock }),
  }
}
const requestOf =
  (downstream: CredentialRequest['downstream']) =>
  (over: Partial<CredentialRequest> = {}): CredentialRequest => ({
    principal: { kind: 'user', tenant: 'acme', user: 'alice' },
    tenant: aTenant(),
    server: aServer(),
    downstream,
    scopes: ['read'],
    notAfter: Infinity,
    audiences: [],
    priorActors: [],
    ancestors: ['t'],
    correlationId: 'c',
    ...over,
  })

interface Google extends ConnectorPlace {
  readonly google: GoogleCloudDouble
}
const onGoogle =
  (impersonates: boolean, given: object = {}) =>
  async (): Promise<Google> => {
    const { keys, egress, assertToCloud, ask } = await aGround()
    const google = await startGoogleCloud({ issuer: ISSUER, keys: keys.jwks('cloud'), impersonates })
    const downstream = downstreamSchema.parse({
      downstream: 'reports',
      credential: 'gcp_sts',
      pool_provider: google.provider,
      sts_url: `${google.url}/v1/token`,
      iam_url: google.url,
      scopes: {},
      ...(impersonates ? { service_account: google.account } : {}),
      ...given,
    })
    return {
      google,
      request: requestOf(downstream),
      connector: createGcpStsConnector({ ask, assertToCloud, clock }),
      spoil: (answer) => {
        google.spoil.push(answer)
      },
      given: () => google.issued.at(-1)!.scopes.map((each) => each.replace(SCOPE, '')),
      secrets: () => google.issued.map(({ token }) => token),
      now: () => clock.now(),
      async close() {
        await egress.close()
        await google.close()
      },
    }
  }
interface Entra extends ConnectorPlace {
  readonly entra: EntraDouble
}
const onEntra =
  (given: object = {}) =>
  async (): Promise<Entra> => {
    const { keys, egress, assertToCloud, ask } = await aGround()
    const entra = await startEntra({
      issuer: ISSUER,
      keys: keys.jwks('cloud'),
      subject: 'tenant:acme:server:notes',
      audience: 'api://AzureADTokenExchange',
    })
    const identity = { directory: entra.directory, client_id: entra.clientId }
    const downstream = downstreamSchema.parse({
      downstream: 'vm',
      credential: 'azure',
      identities: { acme: identity },
      scope: 'https://management.azure.com/.default',
      authority_url: entra.url,
      scopes: {},
      ...given,
    })
    return {
      entra,
      request: requestOf(downstream),
      connector: createAzureConnector({ ask, assertToCloud, clock }),
      spoil: (answer) => {
        entra.spoil.push(answer)
      },
      secrets: () => entra.issued.map(({ token }) => token),
      now: () => clock.now(),
      async close() {
        await egress.close()
        await entra.close()
      },
    }
  }

describeConnector('gcp_sts', onGoogle(false), { knowsUsers: false, lacks: ['surplus scope'] })
describeConnector('gcp_sts with a service account', onGoogle(true), {
  knowsUsers: false,
  lacks: ['surplus scope', 'another token type'],
})
describeConnector('azure', onEntra(), { knowsUsers: false, lacks: ['surplus scope'] })

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'obtained',
    (error: { code: string }) => error.code,
  )

describe('federation with Google Cloud', () => {
  let place: Google | undefined
  beforeEach(() => {
    place = undefined
  })
  afterEach(async () => {
    await place?.close()
  })
  const at = async (...args: Parameters<typeof onGoogle>): Promise<Google> => (place = await onGoogle(...args)())

  it('promise 1: the token is for the scopes that were asked; on the way to an account it can do nothing but have one issued', async () => {
    const { google, connector, request, now } = await at(true)
    await connector.obtain(request({ scopes: ['devstorage.read_only'], notAfter: now() + 600_400 }))
    expect(google.issued).toMatchObject([
      {
        for: 'tenant:acme:server:notes',
        scopes: [`${SCOPE}iam`],
        claims: { iss: ISSUER, aud: `https:${google.provider}`, tenant: 'acme' },
      },
      { for: google.account, scopes: [`${SCOPE}devstorage.read_only`], lifetime: '600s' },
    ])
    expect(await codeOf(connector.obtain(request({ scopes: [] })))).toBe('scope_not_available')
    expect(google.issued).toHaveLength(2)
  })

  it('threat 24: a tenant has its own account, or nothing, and never the federated identity instead', async () => {
    const { google, connector, request } = await at(true, {
      service_account: undefined,
      service_accounts: { acme: 'reports@example-project.iam.gserviceaccount.com' },
    })
    await connector.obtain(request())
    for (const tenant of ['other', 'constructor'])
      expect(await codeOf(connector.obtain(request({ principal: { kind: 'user', tenant, user: 'alice' } })))).toBe(
        'target_unknown',
      )
    expect(google.issued).toHaveLength(2)
  })

  it('promise 9: what Google refuses is one error with its words, and the token in them is struck out', async () => {
    const { connector, request } = await at(false, { audience: 'somebody-else' })
    const error = await connector.obtain(request()).catch((thrown: Error) => thrown)
    expect(error).toMatchObject({
      code: 'provider_refused',
      message: expect.stringContaining('invalid_grant: unexpected "aud" claim value: [token]') as string,
    })
    await place!.close()
    const denied = await at(true, { service_account: 'admin@example-project.iam.gserviceaccount.com' })
    await expect(denied.connector.obtain(denied.request())).rejects.toMatchObject({
      code: 'provider_refused',
      message: expect.stringContaining('PERMISSION_DENIED') as string,
    })
  })

  it('a user is a subject of its own, whatever the name; a server that asks for itself is not one', async () => {
    const { google, connector, request } = await at(false, { subject: 'user' })
    await connector.obtain(request({ principal: { kind: 'user', tenant: 'acme', user: 'bob:user:alice' } }))
    expect(google.issued[0]!.for).toBe('tenant:acme:server:notes:user:bob:user:alice')
    expect(
      await codeOf(connector.obtain(request({ principal: { kind: 'workload', tenant: 'acme', server: 'notes' } }))),
    ).toBe('target_unknown')
  })
})

describe('federation with Entra ID', () => {
  let place: Entra | undefined
  beforeEach(() => {
    place = undefined
  })
  afterEach(async () => {
    await place?.close()
  })
  const at = async (...args: Parameters<typeof onEntra>): Promise<Entra> => (place = await onEntra(...args)())

  it('promise 1: says that nothing of it can be narrowed, so that policy can refuse it', async () => {
    const { entra, connector, request } = await at()
    await connector.obtain(request())
    expect(entra.issued).toMatchObject([
      { scope: 'https://management.azure.com/.default', subject: 'tenant:acme:server:notes' },
    ])
    expect(kinds.azure.narrows(request().downstream, undefined)).toEqual([])
  })

  it('threat 24: a tenant has its own identity, or nothing', async () => {
    const { entra, connector, request } = await at()
    expect(
      await codeOf(connector.obtain(request({ principal: { kind: 'user', tenant: 'other', user: 'alice' } }))),
    ).toBe('target_unknown')
    expect(entra.issued).toEqual([])
  })

  it('promise 9: what Entra ID refuses is one error with its words', async () => {
    const { connector, request } = await at({ subject: 'tenant' })
    await expect(connector.obtain(request())).rejects.toMatchObject({
      code: 'provider_refused',
      message: expect.stringContaining(
        "AADSTS700213: No matching federated identity record found for presented assertion subject 'tenant:acme'",
      ) as string,
    })
  })
})

describe('a token that proves Deputy to a cloud', () => {
  it("is no access token of Deputy's", async () => {
    const { keys, egress, assertToCloud } = await aGround()
    const token = new Secret(
      assertToCloud(requestOf(downstreamSchema.parse({ downstream: 'd', credential: 'static', secret: 's' }))(), {
        audience: ISSUER,
        subject: 'server',
        claims: { client_id: 'notes', iss: 'https://else.example', aud: 'else' },
      }),
    )
    expect(createMintedTokenReader({ keys, issuer: () => ISSUER, clock })(token)).toBeUndefined()
    const claims = JSON.parse(Buffer.from(token.reveal().split('.')[1]!, 'base64url').toString()) as object
    expect(claims).toMatchObject({ iss: ISSUER, aud: ISSUER, sub: 'tenant:acme:server:notes' })
    await egress.close()
  })

  it('is verified by a published key and the algorithm that the discovery document names, and by no key of access tokens', async () => {
    const { keys, egress, assertToCloud } = await aGround()
    const document = discoveryDocument(publicMetadataDocument(ISSUER))
    expect(document).toMatchObject({
      issuer: ISSUER,
      jwks_uri: `${ISSUER}/.well-known/jwks.json`,
      response_types_supported: ['id_token'],
      subject_types_supported: ['public'],
    })
    const token = assertToCloud(
      requestOf(downstreamSchema.parse({ downstream: 'd', credential: 'static', secret: 's' }))(),
      { audience: 'cloud', subject: 'server' },
    )
    const algorithms = document.id_token_signing_alg_values_supported
    expect(
      (
        await jwtVerify(token, createLocalJWKSet(keys.jwks('token', 'cloud')), {
          issuer: ISSUER,
          audience: 'cloud',
          algorithms,
        })
      ).protectedHeader.alg,
    ).toBe('RS256')
    await expect(jwtVerify(token, createLocalJWKSet(keys.jwks('token')), { algorithms })).rejects.toMatchObject({
      code: 'ERR_JWKS_NO_MATCHING_KEY',
    })
    await egress.close()
  })
})
