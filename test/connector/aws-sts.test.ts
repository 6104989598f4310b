import { decodeJwt } from 'jose'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { downstreamSchema } from '../../src/config/downstream.ts'
import { createAwsStsConnector } from '../../src/credentials/connector/cloud/aws-sts.ts'
import type { CredentialRequest } from '../../src/credentials/connector/connector.ts'
import { createCloudAssertions } from '../../src/credentials/connector/token-endpoint/federated-assertion.ts'
import { kinds } from '../../src/credentials/connector/kinds.ts'
import { createProviderCalls } from '../../src/credentials/provider/call.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createEgress } from '../../src/foundation/outbound/fetch.ts'
import { noTelemetry } from '../../src/foundation/telemetry/telemetry.ts'
import { describeConnector, type ConnectorPlace } from '../conformance/connector.ts'
import { startSts, type StsDouble } from '../doubles/aws-sts.ts'
import { signatureOf } from '../doubles/signature-v4.ts'
import { aServer, aTenant } from '../support/snapshot.ts'
import { someSigningKeys } from '../support/signing-keys.ts'

const ISSUER = 'https://deputy.example'
const READ = [
  { Effect: 'Allow', Action: 's3:GetObject', Resource: 'arn:aws:s3:::reports/${aws:PrincipalTag/tenant}/*' },
]
const WRITE = [{ Effect: 'Allow', Action: 's3:PutObject', Resource: 'arn:aws:s3:::reports/*' }]

interface Place extends ConnectorPlace {
  readonly sts: StsDouble
}

const aPlace =
  (given: object = {}) =>
  async (): Promise<Place> => {
    const sts = await startSts()
    const egress = createEgress({ allowLoopback: true, allowPrivate: [], timeout: 2000 })
    const clock = { now: () => Date.now() }
    const keys = await someSigningKeys()
    sts.trusted = {
      issuer: ISSUER,
      audience: 'sts.amazonaws.com',
      keys: keys.jwks('cloud'),
      subject: 'tenant:acme:server:notes',
    }
    const downstream = downstreamSchema.parse({
      downstream: 'reports',
      credential: 'aws_sts',
      region: sts.region,
      endpoint: sts.url,
      key: { secret: 'key' },
      role: sts.role,
      scopes: {},
      statements: { read: READ, write: WRITE },
      ...given,
    })
    const key = JSON.stringify({ AccessKeyId: sts.accessKeyId, SecretAccessKey: sts.secretAccessKey })
    const connector = createAwsStsConnector({
      egress,
      clock,
      call: createProviderCalls({ telemetry: noTelemetry, clock }),
      resolveSecret: () => Promise.resolve(new Secret(key)),
      assertToCloud: createCloudAssertions({ keys, issuer: () => ISSUER, clock, random: createSystemRandom() }),
    })
    const request = (over: Partial<CredentialRequest> = {}): CredentialRequest => ({
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
    const actions = (): unknown[] =>
      (JSON.parse(sts.requests.at(-1)!['Policy']!) as { Statement: { Action: string }[] }).Statement.map(
        ({ Action }) => Action,
      )
    return {
      sts,
      request,
      connector,
      spoil: (answer) => {
        // A failure of its own is tried again once.
        sts.spoil.push(answer, ...(answer === 'failing' ? [answer] : []))
      },
      given: () => actions().map((action) => (action === 's3:GetObject' ? 'read' : 'write')),
      secrets: () => [sts.secretAccessKey, ...sts.secrets],
      now: () => clock.now(),
      async close() {
        await egress.close()
        await sts.close()
      },
    }
  }

const LACKS = ['another token type', 'no expiry', 'surplus scope'] as const
describeConnector('aws_sts', aPlace(), { knowsUsers: false, lacks: LACKS })
describeConnector('aws_sts by web identity', aPlace({ method: 'web_identity', key: undefined }), {
  knowsUsers: false,
  lacks: LACKS,
})

describe('a session at AWS', () => {
  let place: Place | undefined
  beforeEach(() => {
    place = undefined
  })
  afterEach(async () => {
    await place?.close()
  })
  const at = async (given: object = {}): Promise<Place> => (place = await aPlace(given)())
  const codeOf = (work: Promise<unknown>): Promise<string> =>
    work.then(
      () => 'obtained',
      (error: { code: string }) => error.code,
    )
  const user = (name: string): Partial<CredentialRequest> => ({
    principal: { kind: 'user', tenant: 'acme', user: name },
  })

  it('promise 1: has the statements of the scopes that were asked and of no others, and says that it can', async () => {
    const { sts, connector, request } = await at()
    await connector.obtain(request())
    expect(JSON.parse(sts.requests[0]!['Policy']!)).toEqual({ Version: '2012-10-17', Statement: READ })
    expect(kinds.aws_sts.narrows(request().downstream, undefined)).toEqual(['scope', 'session_policy'])
    for (const scopes of [[], ['admin'], ['read', 'constructor']])
      expect([scopes, await codeOf(connector.obtain(request({ scopes })))]).toEqual([scopes, 'scope_not_available'])
    expect(sts.requests).toHaveLength(1)
  })

  it('promise 1: what cannot be narrowed does not say that it can', async () => {
    const { sts, connector, request } = await at({ method: 'session_token' })
    await connector.obtain(request())
    expect(sts.requests).toEqual([expect.not.objectContaining({ Policy: expect.anything() as unknown })])
    expect(kinds.aws_sts.narrows(request().downstream, undefined)).toEqual([])
    const whole = downstreamSchema.parse({
      downstream: 'reports',
      credential: 'aws_sts',
      region: 'eu-central-1',
      role: sts.role,
      scopes: {},
    })
    expect(kinds.aws_sts.narrows(whole, undefined)).toEqual([])
  })

  it('is JSON of the credential-process form, and ends there when Deputy says that it ends', async () => {
    const { connector, request, now } = await at({ lifetime: '20m' })
    const notAfter = now() + 300_000
    const { token, expiresAt, tokenType } = await connector.obtain(request({ notAfter }))
    expect(JSON.parse(token.reveal())).toEqual({
      Version: 1,
      AccessKeyId: expect.stringMatching(/^ASIA/) as string,
      SecretAccessKey: expect.any(String) as string,
      SessionToken: expect.any(String) as string,
      Expiration: new Date(notAfter).toISOString(),
    })
    expect([expiresAt, tokenType]).toEqual([notAfter, 'N_A'])
  })

  it('is asked for no longer than the subject token lives, and for no less than AWS allows', async () => {
    const { sts, connector, request, now } = await at()
    for (const life of [60_000, 1_800_500, Infinity]) await connector.obtain(request({ notAfter: now() + life }))
    expect(sts.requests.map((each) => each['DurationSeconds'])).toEqual(['900', '1800', '3600'])
  })

  it('threat 24: is named after who asks; names that are alike when they are cleaned are not the same', async () => {
    const { sts, connector, request } = await at()
    for (const name of ['alice', 'al/ice', 'al ice', 'x'.repeat(300), 'Ålice'])
      await connector.obtain(request(user(name)))
    await connector.obtain(request({ principal: { kind: 'workload', tenant: 'acme', server: 'notes' } }))
    const names = sts.requests.map((each) => each['RoleSessionName']!)
    expect(new Set(names).size).toBe(6)
    expect(names[0]).toMatch(/^notes\.alice-[0-9a-f]{16}$/)
  })

  it('carries tenant, user and server as tags, transitive if so; what a tag cannot say is refused and never changed', async () => {
    const { sts, connector, request } = await at({
      tags: ['tenant', 'user', 'server'],
      transitive_tags: true,
      source_identity: 'user',
    })
    await connector.obtain(request())
    expect(sts.requests[0]).toMatchObject({
      'Tags.member.1.Key': 'tenant',
      'Tags.member.1.Value': 'acme',
      'Tags.member.2.Value': 'alice',
      'Tags.member.3.Value': 'notes',
      'TransitiveTagKeys.member.2': 'user',
      SourceIdentity: 'alice',
    })
    for (const name of ['a&b', 'x'.repeat(257), 'aws:root', 'a'])
      expect([name.slice(0, 9), await codeOf(connector.obtain(request(user(name))))]).toEqual([
        name.slice(0, 9),
        'provider_refused',
      ])
    expect(sts.requests).toHaveLength(1)
  })

  it('by web identity is for a token that Deputy signs: audience, subject, tags and source identity are in it, and it is no access token', async () => {
    const { sts, connector, request } = await at({
      method: 'web_identity',
      key: undefined,
      tags: ['tenant', 'user'],
      transitive_tags: true,
      source_identity: 'server',
    })
    await connector.obtain(request())
    expect(sts.claims).toMatchObject({
      iss: ISSUER,
      aud: 'sts.amazonaws.com',
      sub: 'tenant:acme:server:notes',
      'https://aws.amazon.com/tags': {
        principal_tags: { tenant: ['acme'], user: ['alice'] },
        transitive_tag_keys: ['tenant', 'user'],
      },
      'https://aws.amazon.com/source_identity': 'notes',
    })
    const { WebIdentityToken: token = '' } = sts.requests[0]!
    expect(JSON.parse(Buffer.from(token.split('.')[0]!, 'base64url').toString())).toMatchObject({
      alg: 'RS256',
      typ: 'JWT',
    })
    const { exp = 0, iat = 0 } = decodeJwt(token)
    expect(exp - iat).toBe(300)
  })

  it('threat 12: by web identity for a user is refused when a server asks for itself', async () => {
    const { sts, connector, request } = await at({ method: 'web_identity', key: undefined, subject: 'user' })
    expect(
      await codeOf(connector.obtain(request({ principal: { kind: 'workload', tenant: 'acme', server: 'notes' } }))),
    ).toBe('target_unknown')
    expect(sts.requests).toEqual([])
  })

  it('threat 24: a tenant has its own role, or nothing', async () => {
    const { sts, connector, request } = await at({
      role: undefined,
      roles: { acme: 'arn:aws:iam::123456789012:role/deputy/reports' },
    })
    await connector.obtain(request())
    expect(
      await codeOf(connector.obtain(request({ principal: { kind: 'user', tenant: 'other', user: 'alice' } }))),
    ).toBe('target_unknown')
    expect(sts.requests).toHaveLength(1)
  })

  it('promise 9: what AWS refuses is one error with its code and words, and a token in them is struck out', async () => {
    const { connector, request } = await at({
      statements: { read: READ, write: Array.from({ length: 16 }, () => WRITE[0]!) },
      lifetime: '3h',
    })
    await expect(connector.obtain(request())).rejects.toMatchObject({
      code: 'provider_refused',
      message: expect.stringContaining('ValidationError: The requested DurationSeconds exceeds') as string,
    })
    await place!.close()
    const other = await at({ statements: { read: Array.from({ length: 20 }, () => WRITE[0]!) } })
    await expect(other.connector.obtain(other.request())).rejects.toMatchObject({
      code: 'provider_refused',
      message: expect.stringContaining('PackedPolicyTooLarge') as string,
    })
    await other.close()
    const strange = await at({ method: 'web_identity', key: undefined })
    strange.sts.trusted = { ...strange.sts.trusted!, audience: 'somebody-else' }
    await expect(strange.connector.obtain(strange.request())).rejects.toMatchObject({
      code: 'provider_refused',
      message: expect.stringContaining('InvalidIdentityToken') as string,
    })
  })

  it('threat 6: STS is reached through the one way out', async () => {
    const { sts, request, now } = await at()
    const egress = createEgress({ allowLoopback: false, allowPrivate: [], timeout: 2000 })
    const connector = createAwsStsConnector({
      egress,
      clock: { now },
      call: createProviderCalls({ telemetry: noTelemetry, clock: { now } }),
      resolveSecret: () =>
        Promise.resolve(new Secret(JSON.stringify({ AccessKeyId: 'AKIDEXAMPLE', SecretAccessKey: 'x' }))),
      assertToCloud: () => '',
    })
    expect(await codeOf(connector.obtain(request()))).toBe('egress_refused')
    expect(sts.requests).toEqual([])
    await egress.close()
  })
})

// https://docs.aws.amazon.com/IAM/latest/UserGuide/signing-elements.html; the vectors get-vanilla, post-vanilla and post-x-www-form-urlencoded of AWS's Signature Version 4 test suite.
describe('the verifier of signatures', () => {
  const by = {
    secret: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY',
    date: '20150830',
    region: 'us-east-1',
    service: 'service',
  }
  const headers = { host: 'example.amazonaws.com', 'x-amz-date': '20150830T123600Z' }
  it.each([
    ['GET', '', {}, 'host;x-amz-date', '5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31'],
    ['POST', '', {}, 'host;x-amz-date', '5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b'],
    [
      'POST',
      'Param1=value1',
      { 'content-type': 'application/x-www-form-urlencoded' },
      'content-type;host;x-amz-date',
      'ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a',
    ],
  ])('agrees with the published vector for %s %s', (method, body, more, names, signature) => {
    expect(
      signatureOf(
        { method, path: '/', query: '', headers: { ...headers, ...more }, body: Buffer.from(body) },
        names,
        by,
      ).toString('hex'),
    ).toBe(signature)
  })
})
