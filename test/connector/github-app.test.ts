import { createHash } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { downstreamSchema } from '../../src/config/downstream.ts'
import type { CredentialRequest } from '../../src/credentials/connector/connector.ts'
import { createGitHubAppConnector } from '../../src/credentials/connector/github/github-app.ts'
import { createGitHubTokens } from '../../src/credentials/connector/github/github-token.ts'
import { kinds } from '../../src/credentials/connector/kinds.ts'
import { createProviderRequests } from '../../src/credentials/connector/token-endpoint/ask.ts'
import { createProviderCalls } from '../../src/credentials/provider/call.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createEgress } from '../../src/foundation/outbound/fetch.ts'
import { isLeaseWanted } from '../../src/flows/exchange/lease-life.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { noTelemetry } from '../../src/foundation/telemetry/telemetry.ts'
import { Leases } from '../../src/credentials/secret/leases.ts'
import { describeConnector, type ConnectorPlace } from '../conformance/connector.ts'
import { startGitHub, type GitHubDouble } from '../doubles/github.ts'
import { startGround } from '../support/keyring.ts'
import { aServer, aSnapshot, aTenant } from '../support/snapshot.ts'

interface Place extends ConnectorPlace {
  readonly github: GitHubDouble
  readonly leases: Leases
  forward(milliseconds: number): void
}

const aPlace =
  (given: object = {}) =>
  async (): Promise<Place> => {
    const github = await startGitHub()
    const egress = createEgress({ allowLoopback: true, allowPrivate: [], timeout: 2000 })
    const keysAndStore = await startGround()
    let offset = 0
    const clock = { now: () => Date.now() + offset }
    const downstream = downstreamSchema.parse({
      downstream: 'github',
      credential: 'github_app',
      api_url: github.url,
      app: github.clientId,
      key: { secret: 'key' },
      installation: '42',
      scopes: {},
      permissions: { read: { contents: 'read' }, write: { contents: 'write' } },
      ...given,
    })
    const call = createProviderCalls({ telemetry: noTelemetry, clock })
    const ask = createProviderRequests({ egress, call, clock })
    const tokensAt = createGitHubTokens({ egress, call })
    const leases = new Leases({
      store: keysAndStore.store.leases,
      envelope: keysAndStore.envelope,
      backendOf: tokensAt,
      isVoid: () => false,
      isWanted: () => true,
      clock,
      random: createSystemRandom(),
      logger: silentLogger,
      audit: { append: () => Promise.resolve() },
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
    return {
      github,
      request,
      leases,
      forward(milliseconds) {
        offset += milliseconds
      },
      connector: createGitHubAppConnector({
        ask,
        clock,
        leases,
        tokensAt,
        resolveSecret: () => Promise.resolve(new Secret(github.key)),
      }),
      spoil: (answer) => {
        github.spoil.push(answer)
      },
      given: () => [github.issued.at(-1)!.permissions['contents']!],
      secrets: () => [github.key, ...github.issued.map(({ token }) => token)],
      now: () => clock.now(),
      async close() {
        await leases.close()
        await egress.close()
        await github.close()
        await keysAndStore.close()
      },
    }
  }

describeConnector('github_app', aPlace(), { knowsUsers: false, lacks: ['another token type'] })

describe('an installation token', () => {
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

  it('requirement 36, promise 1: is for the permissions and repositories that the scopes name, and says that it can be', async () => {
    const { github, connector, request } = await at()
    await connector.obtain(request({ scopes: ['contents:read', 'issues:read', 'issues:write', 'repo:notes'] }))
    expect(github.issued).toMatchObject([
      {
        installation: '42',
        permissions: { metadata: 'read', contents: 'read', issues: 'write' },
        repositories: ['notes'],
      },
    ])
    expect(kinds.github_app.narrows(request().downstream, undefined)).toEqual(['scope', 'permission', 'repository'])
  })

  it('promise 1: is never asked for without a permission, which would be all of them', async () => {
    const { github, connector, request } = await at()
    for (const scopes of [[], ['repo:notes'], ['everything'], ['contents:owner'], ['toString:read', '__proto__']])
      expect([scopes, await codeOf(connector.obtain(request({ scopes })))]).toEqual([scopes, 'scope_not_available'])
    expect(github.issued).toEqual([])
  })

  it('threat 24: a tenant has its own installation and repositories, or nothing', async () => {
    const { github, connector, request } = await at({
      installation: undefined,
      installations: { acme: '42', other: '43' },
      repositories: { acme: ['notes', 'website'] },
    })
    await connector.obtain(request())
    expect(await codeOf(connector.obtain(request({ scopes: ['read', 'repo:payroll'] })))).toBe('scope_not_available')
    await connector.obtain(request({ scopes: ['read', 'repo:website'] }))
    await connector.obtain(request({ principal: { kind: 'workload', tenant: 'other', server: 'notes' } }))
    for (const tenant of ['third', 'constructor'])
      expect(await codeOf(connector.obtain(request({ principal: { kind: 'user', tenant, user: 'alice' } })))).toBe(
        'target_unknown',
      )
    expect(github.issued.map(({ installation, repositories }) => [installation, repositories])).toEqual([
      ['42', ['notes', 'website']],
      ['42', ['website']],
      ['43', 'all'],
    ])
  })

  it('promise 9: what GitHub refuses is one error with its own words', async () => {
    const { connector, request } = await at()
    await expect(connector.obtain(request({ scopes: ['members:read'] }))).rejects.toMatchObject({
      code: 'provider_refused',
      facts: { problem: 'The permissions requested are not granted to this installation.' },
    })
    await expect(connector.obtain(request({ scopes: ['read', 'repo:nowhere'] }))).rejects.toMatchObject({
      code: 'provider_refused',
      message: expect.stringContaining('does not exist or is not accessible') as string,
    })
  })

  it('a key that is none is an error that does not show it', async () => {
    const { connector, request, github } = await at()
    Object.assign(github, { key: 'not-a-key' })
    const error = await connector.obtain(request()).catch((thrown: Error) => thrown)
    expect(error).toMatchObject({ code: 'provider_refused' })
    expect((error as Error).message).not.toContain('not-a-key')
  })

  it('promise 4: one is of one owner and one set of permissions, and a revocation ends it at GitHub, now or when that is back', async () => {
    const { github, connector, request, leases, forward } = await at()
    const first = (await connector.obtain(request())).token.reveal()
    const other = (await connector.obtain(request({ scopes: ['write'] }))).token.reveal()
    const bobs = (
      await connector.obtain(request({ principal: { kind: 'user', tenant: 'acme', user: 'bob' } }))
    ).token.reveal()
    expect((await connector.obtain(request())).token.reveal()).toBe(first)
    expect(github.issued).toHaveLength(3)
    github.away = true
    expect((await leases.end([{ tenant: 'acme', user: 'alice' }])).map(({ upstream }) => upstream)).toEqual([
      'queued',
      'queued',
    ])
    github.away = false
    expect(await github.takes(first)).toBe(true)
    for (let tries = 0; tries < 5 && github.ended.length < 2; tries += 1) {
      forward(11_000)
      await leases.tick()
    }
    expect([await github.takes(first), await github.takes(other), await github.takes(bobs)]).toEqual([
      false,
      false,
      true,
    ])
    expect((await connector.obtain(request())).token.reveal()).not.toBe(first)
  })

  it('promise 5: is kept sealed, under the name that the audit log of GitHub has for it', async () => {
    const { connector, request, leases } = await at()
    const { token, grant, auditNote } = await connector.obtain(request())
    const [lease] = await leases.list({ id: grant! })
    expect(lease).toMatchObject({
      external: createHash('sha256').update(token.reveal()).digest('base64'),
      state: 'active',
    })
    expect(`${JSON.stringify(lease)} ${Buffer.from(lease!.sealed!).toString('latin1')} ${auditNote}`).not.toContain(
      token.reveal(),
    )
  })

  it('what GitHub has ended itself is ended, and what it refuses to end is tried again until its hour is over', async () => {
    const { github, connector, request, leases, forward } = await at()
    const token = (await connector.obtain(request())).token.reveal()
    await fetch(`${github.url}/installation/token`, {
      method: 'DELETE',
      headers: { authorization: `Bearer ${token}`, 'user-agent': 'test' },
    })
    expect(await leases.end([{ tenant: 'acme' }])).toMatchObject([{ upstream: 'done' }])
    await connector.obtain(request())
    github.away = true
    expect(await leases.end([{ tenant: 'acme' }])).toMatchObject([{ upstream: 'queued' }])
    forward(3_700_000)
    await leases.tick()
    expect(await leases.list({})).toEqual([])
  })

  it('when the key of its tenant is about to be destroyed it is ended now or never, and that is said', async () => {
    const { github, connector, request, leases } = await at()
    const token = (await connector.obtain(request())).token.reveal()
    expect(await leases.end([{ tenant: 'acme' }], true)).toMatchObject([{ upstream: 'done' }])
    expect(await github.takes(token)).toBe(false)
    await connector.obtain(request())
    github.away = true
    expect(await leases.end([{ tenant: 'acme' }], true)).toMatchObject([{ upstream: 'failed' }])
    expect(await leases.list({})).toEqual([])
  })

  it('one with more than was asked is ended at once', async () => {
    const { github, connector, request } = await at()
    github.spoil.push('surplus scope')
    expect(await codeOf(connector.obtain(request()))).toBe('scope_not_narrowable')
    expect(github.ended).toEqual([github.issued[0]!.token])
  })

  it('threat 24: is wanted as long as its tenant has its installation at this API', async () => {
    const { connector, request, leases } = await at()
    const { grant } = await connector.obtain(request())
    const [lease] = await leases.list({ id: grant! })
    const wanted = (given: object) =>
      isLeaseWanted(
        {
          ...aSnapshot({ servers: [aServer({ downstreams: { github: { scopes: [] } } })] }),
          downstreams: new Map([['github', { ...request().downstream, ...given } as never]]),
        },
        lease!,
      )
    expect([
      wanted({}),
      wanted({ installation: '43' }),
      wanted({ installations: { acme: '43' } }),
      wanted({ installation: undefined }),
      wanted({ api_url: 'https://api.github.com' }),
      wanted({ enabled: false }),
    ]).toEqual([true, false, false, false, false, false])
  })

  it('threat 15: is not wanted by a server that is no longer registered for it, or does not serve the tenant', async () => {
    const { connector, request, leases } = await at()
    const [lease] = await leases.list({ id: (await connector.obtain(request())).grant! })
    const wanted = (server: object, given: object = {}) =>
      isLeaseWanted(
        {
          ...aSnapshot({ servers: [aServer({ downstreams: { github: { scopes: [] } }, ...server })] }),
          downstreams: new Map([['github', { ...request().downstream, ...given } as never]]),
        },
        lease!,
      )
    expect([
      wanted({}),
      wanted({ downstreams: {}, service_downstreams: { github: { scopes: [] } } }),
      wanted({ tenants: ['globex'] }),
      wanted({}, { tenants: ['globex'] }),
      wanted({ status: 'retired' }),
    ]).toEqual([true, false, false, false, false])
  })

  it('however many repositories are asked, each set has a token of its own', async () => {
    const { github, connector, request, leases } = await at({ installation: '44' })
    const many = (last: number) =>
      request({
        scopes: ['read', ...Array.from({ length: 30 }, (_, at) => `repo:repository-${at}`), `repo:repository-${last}`],
      })
    for (const last of [40, 41, 40]) await connector.obtain(many(last))
    expect(github.issued.map(({ repositories }) => repositories.at(-1))).toEqual(['repository-40', 'repository-41'])
    const names = (await leases.list({})).map(({ role }) => role)
    expect([new Set(names).size, ...names.map(({ length }) => length)]).toEqual([2, 200, 200])
  })
})
