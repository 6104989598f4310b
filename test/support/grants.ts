/** The connector of users' grants as the daemon builds it, on a real store, against a provider that can be spoiled. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { AuditRecord } from '../../src/foundation/audit/record.ts'
import { createSystemRandom } from '../../src/clock.ts'
import { downstreamSchema, type DownstreamOf } from '../../src/config/downstream.ts'
import { providerSchema } from '../../src/config/provider.ts'
import type { Snapshot } from '../../src/config/snapshot.ts'
import type { Credential, Connector, CredentialRequest, Revocable } from '../../src/credentials/connector/connector.ts'
import { createProviderCalls } from '../../src/credentials/provider/call.ts'
import { createProviderClients, generationOf } from '../../src/credentials/provider/client.ts'
import { createOAuthGrantConnector } from '../../src/credentials/connector/oauth-grant/connector.ts'
import { openTokens, sealTokens, type GrantTokens } from '../../src/credentials/connector/oauth-grant/grant.ts'
import { keyFromFile, keyFromText, newKeyText } from '../../src/foundation/crypto/key-encryption-key.ts'
import { Keyring } from '../../src/foundation/crypto/keyring.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createEgress } from '../../src/foundation/outbound/fetch.ts'
import { noTelemetry } from '../../src/foundation/telemetry/telemetry.ts'
import { openSqliteStore } from '../../src/foundation/store/sqlite/open.ts'
import type { Grant, GrantStore } from '../../src/foundation/store/records/grants.ts'
import type { Store } from '../../src/foundation/store/store.ts'
import type { OAuthProviderDouble } from '../doubles/oauth-provider.ts'
import { someProofs } from './proofs.ts'
import { aClock, aServer, aSnapshot, aTenant } from './snapshot.ts'
import { borrowStore } from './stores.ts'

export const RESOURCE = 'https://notes-api.example'

export const providerFile = (provider: Pick<OAuthProviderDouble, 'url'>, given: object = {}): object => ({
  provider: 'notes',
  name: 'Notes',
  authorization_endpoint: `${provider.url}/authorize`,
  token_endpoint: `${provider.url}/token`,
  revocation_endpoint: `${provider.url}/revoke`,
  refresh: { rotates: true, narrows: true },
  revocation: 'rfc7009',
  ...given,
})
export const downstreamFile = (provider: Pick<OAuthProviderDouble, 'client'>, given: object = {}): object => ({
  downstream: 'notes-api',
  credential: 'oauth_grant',
  provider: 'notes',
  resource: RESOURCE,
  client: { client_id: provider.client.id, client_secret: { secret: 'client' } },
  scopes: { read: 'Read', write: 'Write', admin: 'All' },
  ...given,
})

/** The files of a daemon whose server `notes` may use users' grants at the provider. */
export const grantFiles = (provider: OAuthProviderDouble): Readonly<Record<string, object | string>> => ({
  'providers/notes.yaml': providerFile(provider),
  'downstreams/notes-api.yaml': downstreamFile(provider, {
    client: { client_id: provider.client.id, client_secret: { file: 'client-secret' } },
  }),
  'client-secret': provider.client.secret,
  'policies/access/grant.cedar': '@id("notes") permit (principal, action == Deputy::Action::"oauth_grant", resource);',
})

/** The store and the keys of a daemon that is not running. */
export const openState = async (home: string): Promise<{ store: Store; envelope: Keyring }> => {
  const random = createSystemRandom()
  const store = await openSqliteStore({ path: join(home, 'state/deputy.db') })
  const envelope = await Keyring.open({
    folder: join(home, 'state/keys'),
    kek: await keyFromFile(join(home, 'state/kek'), random),
    random,
  })
  return { store, envelope }
}

export interface SeedOptions {
  /** ms from now until the access token expires; default: it has. */
  readonly lifetime?: number
  /** Default: everybody is of acme. */
  readonly tenantOf?: (user: string) => string
  /** What the provider said beside the tokens. */
  readonly fields?: Readonly<Record<string, string>>
  /** Default: `read`. */
  readonly scopes?: readonly string[]
}

/** Gives users a grant each, in the store of a daemon that is not running. */
export const seedGrants = async (
  home: string,
  provider: OAuthProviderDouble,
  users: readonly string[],
  options: SeedOptions = {},
): Promise<Map<string, ReturnType<OAuthProviderDouble['issue']>>> => {
  const state = await openState(home)
  try {
    return await seedGrantsInto(state, provider, users, options)
  } finally {
    await state.store.close()
  }
}

/** Gives users a grant each, in any store. */
export const seedGrantsInto = async (
  { store, envelope }: { store: Store; envelope: Keyring },
  provider: OAuthProviderDouble,
  users: readonly string[],
  options: SeedOptions = {},
): Promise<Map<string, ReturnType<OAuthProviderDouble['issue']>>> => {
  const given = new Map<string, ReturnType<OAuthProviderDouble['issue']>>()
  const tokenEndpoint = `${provider.url}/token`
  const now = Date.now()
  for (const user of users) {
    const issued = provider.issue({ scopes: options.scopes ?? ['read'], resource: RESOURCE })
    const grant = {
      id: `grant-${user}`,
      tenant: options.tenantOf?.(user) ?? 'acme',
      user,
      server: 'notes',
      downstream: 'notes-api',
    }
    await store.grants.put({
      ...grant,
      provider: 'notes',
      scopes: options.scopes ?? ['read'],
      status: 'active',
      problem: null,
      createdAt: now,
      updatedAt: now,
      clientGeneration: generationOf(provider.client.id, tokenEndpoint, RESOURCE),
      sealed: await sealTokens(envelope, grant, {
        refreshToken: new Secret(issued.refreshToken),
        accessToken: new Secret(issued.accessToken),
        accessObtainedAt: options.lifetime === undefined ? now - 7_200_000 : now,
        accessExpiresAt: now + (options.lifetime ?? -3_600_000),
        clientId: provider.client.id,
        tokenEndpoint,
        resource: RESOURCE,
        fields: options.fields,
      }),
    })
    given.set(user, issued)
  }
  return given
}

export interface Grants {
  readonly store: Store
  readonly envelope: Keyring
  readonly clock: ReturnType<typeof aClock>
  readonly records: AuditRecord[]
  readonly connector: Connector & Revocable & { drainUpstreamRevocations(): Promise<void>; close(): Promise<void> }
  /** The ids of grants that a revocation covers. */
  readonly revoked: Set<string>
  /** Stores a grant of alice's; its access token has expired unless it says otherwise. */
  give(given?: { scopes?: readonly string[]; expiresIn?: number; user?: string; server?: string }): Promise<Grant>
  obtain(scopes?: readonly string[], user?: string, rejected?: CredentialRequest['rejected']): Promise<Credential>
  /** What the store has now. */
  stored(grant: Grant): Promise<{ grant: Grant; tokens: GrantTokens }>
  /** Takes its refresh token away, as where the provider gave none. */
  forget(grant: Grant): Promise<void>
  /** Changes files, as a reload does. */
  configure(given: { downstream?: object; provider?: object }): void
  close(): Promise<void>
}

export const startGrants = async (
  provider: OAuthProviderDouble,
  options: { timeout?: number; owner?: string; shared?: boolean; wrap?: (grants: GrantStore) => GrantStore } = {},
): Promise<Grants> => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-grants-'))
  const random = createSystemRandom()
  const clock = aClock()
  const borrowed = await borrowStore()
  const { store } = borrowed
  const envelope = await Keyring.open({
    folder: join(folder, 'keys'),
    kek: keyFromText(newKeyText(random), 'test', random),
    random,
  })
  const egress = createEgress({ allowLoopback: true, allowPrivate: [], timeout: options.timeout ?? 2000 })
  const server = aServer()
  const tenant = aTenant()
  let snapshot: Snapshot
  const configure: Grants['configure'] = (given) => {
    const downstream = downstreamSchema.parse(downstreamFile(provider, given.downstream))
    snapshot = {
      ...aSnapshot({ servers: [server], tenants: [tenant], settings: { network: { allow_loopback: true } } }),
      downstreams: new Map([[downstream.downstream, downstream]]),
      providers: new Map([['notes', providerSchema.parse(providerFile(provider, given.provider))]]),
    }
  }
  configure({})
  const downstream = (): DownstreamOf<'oauth_grant'> =>
    snapshot.downstreams.get('notes-api') as DownstreamOf<'oauth_grant'>
  const records: AuditRecord[] = []
  const revoked = new Set<string>()
  const resolveSecret = () => Promise.resolve(new Secret(provider.client.secret))
  const clients = createProviderClients({ snapshot: () => snapshot, egress, ...someProofs(), resolveSecret })
  const connector = createOAuthGrantConnector({
    isVoid: (grant) => revoked.has(grant.id),
    catchUp: () => Promise.resolve(),
    snapshot: () => snapshot,
    grants: options.wrap?.(store.grants) ?? store.grants,
    consents: store.consents,
    upstreamRevocations: store.upstreamRevocations,
    envelope,
    clock,
    random,
    connectUrl: (_request: CredentialRequest, scopes) =>
      Promise.resolve(`https://deputy.example/connect/${scopes.join('+')}`),
    clients,
    call: createProviderCalls({ telemetry: noTelemetry, clock: { now: () => Date.now() } }),
    audit: {
      append: (record) => {
        records.push(record)
        return Promise.resolve()
      },
    },
    telemetry: noTelemetry,
    logger: { info() {}, warn() {}, error() {} } as never,
    owner: options.owner ?? 'local',
    shared: options.shared ?? false,
    timeout: options.timeout ?? 2000,
  })
  let count = 0
  return {
    store,
    envelope,
    clock,
    records,
    connector,
    revoked,
    configure,
    async give({ scopes = ['read', 'write'], expiresIn = -1000, user = 'alice', server = 'notes' } = {}) {
      const id = `grant-${(count += 1)}`
      const { refreshToken, accessToken } = provider.issue({ scopes, resource: RESOURCE })
      const {
        generation,
        clientId,
        server: { token_endpoint: tokenEndpoint },
      } = await clients(downstream(), 'acme')
      const sealed = await sealTokens(
        envelope,
        { tenant: 'acme', id, user, server, downstream: 'notes-api' },
        {
          refreshToken: new Secret(refreshToken),
          accessToken: new Secret(accessToken),
          accessObtainedAt: clock.now() - 3_600_000,
          accessExpiresAt: clock.now() + expiresIn,
          clientId,
          tokenEndpoint: tokenEndpoint!,
          resource: RESOURCE,
        },
      )
      return store.grants.put({
        id,
        tenant: 'acme',
        user,
        server,
        downstream: 'notes-api',
        provider: 'notes',
        clientGeneration: generation,
        scopes,
        status: 'active',
        problem: null,
        sealed,
        createdAt: clock.now(),
        updatedAt: clock.now(),
      })
    },
    obtain: (scopes = ['read', 'write'], user = 'alice', rejected) =>
      connector.obtain({
        principal: { kind: 'user', tenant: 'acme', user },
        tenant,
        server,
        downstream: downstream(),
        scopes,
        notAfter: Infinity,
        audiences: [RESOURCE],
        priorActors: [],
        ancestors: [],
        correlationId: 'request-1',
        ...(rejected === undefined ? {} : { rejected }),
      }),
    async stored({ id }) {
      const grant = (await store.grants.get(id))!
      return { grant, tokens: await openTokens(envelope, grant) }
    },
    async forget({ id }) {
      const grant = (await store.grants.get(id))!
      const tokens = await openTokens(envelope, grant)
      await store.grants.update({
        ...grant,
        sealed: await sealTokens(envelope, grant, { ...tokens, refreshToken: undefined }),
      })
    },
    async close() {
      await egress.close()
      await borrowed.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
