import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { downstreamSchema } from '../../src/config/downstream.ts'
import type { CredentialRequest } from '../../src/connector/connector.ts'
import { createGitHubAppConnector } from '../../src/connector/github-app.ts'
import { kinds } from '../../src/connector/kinds.ts'
import { createProviderRequests } from '../../src/connector/provider/ask.ts'
import { createProviderCalls } from '../../src/connector/provider/call.ts'
import { Secret } from '../../src/crypto/secret.ts'
import { createEgress } from '../../src/egress/fetch.ts'
import { noTelemetry } from '../../src/observe/telemetry.ts'
import { describeConnector, type ConnectorPlace } from '../conformance/connector.ts'
import { startGitHub, type GitHubDouble } from '../doubles/github.ts'
import { aServer, aTenant } from '../support/snapshot.ts'

interface Place extends ConnectorPlace { readonly github: GitHubDouble }

const aPlace = (given: object = {}) => async (): Promise<Place> => {
  const github = await startGitHub()
  const egress = createEgress({ allowLoopback: true, allowPrivate: [], timeout: 2000 })
  const clock = { now: () => Date.now() }
  const downstream = downstreamSchema.parse({
    downstream: 'github', credential: 'github_app', api_url: github.url, app: github.clientId, key: { secret: 'key' }, installation: '42', scopes: {}, permissions: { read: { contents: 'read' }, write: { contents: 'write' } }, ...given,
  })
  const ask = createProviderRequests({ egress, call: createProviderCalls({ telemetry: noTelemetry, clock }), clock })
  const request = (over: Partial<CredentialRequest> = {}): CredentialRequest => ({
    principal: { kind: 'user', tenant: 'acme', user: 'alice' }, tenant: aTenant(), server: aServer(), downstream, scopes: ['read'], notAfter: Infinity, audiences: [], priorActors: [], ancestors: ['t'], correlationId: 'c', ...over,
  })
  return {
    github, request, connector: createGitHubAppConnector({ ask, clock, resolveSecret: () => Promise.resolve(new Secret(github.key)) }), spoil: (answer) => { github.spoil.push(answer) },
    given: () => [github.issued.at(-1)!.permissions['contents']!], secrets: () => [github.key, ...github.issued.map(({ token }) => token)], now: () => clock.now(), async close() { await egress.close(); await github.close() },
  }
}

describeConnector('github_app', aPlace(), { knowsUsers: false, lacks: ['another token type'] })

describe('an installation token', () => {
  let place: Place | undefined
  beforeEach(() => { place = undefined })
  afterEach(async () => { await place?.close() })
  const at = async (given: object = {}): Promise<Place> => place = await aPlace(given)()
  const codeOf = (work: Promise<unknown>): Promise<string> => work.then(() => 'obtained', (error: { code: string }) => error.code)

  it('requirement 36, promise 1: is for the permissions and repositories that the scopes name, and says that it can be', async () => {
    const { github, connector, request } = await at()
    await connector.obtain(request({ scopes: ['contents:read', 'issues:read', 'issues:write', 'repo:notes'] }))
    expect(github.issued).toMatchObject([{ installation: '42', permissions: { metadata: 'read', contents: 'read', issues: 'write' }, repositories: ['notes'] }])
    expect(kinds.github_app.narrows(request().downstream, undefined)).toEqual(['scope', 'permission', 'repository'])
  })

  it('promise 1: is never asked for without a permission, which would be all of them', async () => {
    const { github, connector, request } = await at()
    for (const scopes of [[], ['repo:notes'], ['everything'], ['contents:owner'], ['toString:read', '__proto__']]) expect([scopes, await codeOf(connector.obtain(request({ scopes })))]).toEqual([scopes, 'scope_not_available'])
    expect(github.issued).toEqual([])
  })

  it('threat 24: a tenant has its own installation and repositories, or nothing', async () => {
    const { github, connector, request } = await at({ installation: undefined, installations: { acme: '42', other: '43' }, repositories: { acme: ['notes', 'website'] } })
    await connector.obtain(request())
    expect(await codeOf(connector.obtain(request({ scopes: ['read', 'repo:payroll'] })))).toBe('scope_not_available')
    await connector.obtain(request({ scopes: ['read', 'repo:website'] }))
    await connector.obtain(request({ principal: { kind: 'workload', tenant: 'other', server: 'notes' } }))
    for (const tenant of ['third', 'constructor']) expect(await codeOf(connector.obtain(request({ principal: { kind: 'user', tenant, user: 'alice' } })))).toBe('target_unknown')
    expect(github.issued.map(({ installation, repositories }) => [installation, repositories])).toEqual([['42', ['notes', 'website']], ['42', ['website']], ['43', 'all']])
  })

  it('promise 9: what GitHub refuses is one error with its own words', async () => {
    const { connector, request } = await at()
    await expect(connector.obtain(request({ scopes: ['members:read'] }))).rejects.toMatchObject({ code: 'provider_refused', facts: { problem: 'The permissions requested are not granted to this installation.' } })
    await expect(connector.obtain(request({ scopes: ['read', 'repo:nowhere'] }))).rejects.toMatchObject({ code: 'provider_refused', message: expect.stringContaining('does not exist or is not accessible') as string })
  })

  it('a key that is none is an error that does not show it', async () => {
    const { connector, request, github } = await at()
    Object.assign(github, { key: 'not-a-key' })
    const error = await connector.obtain(request()).catch((thrown: Error) => thrown)
    expect(error).toMatchObject({ code: 'provider_refused' })
    expect((error as Error).message).not.toContain('not-a-key')
  })
})
