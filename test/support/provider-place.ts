/** Deputy as a client of a vendor's double, with the provider file that is shipped: a file of the home moves its endpoints to the double and keeps every other fact. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parse, stringify } from 'yaml'
import type { AuditRecord } from '../../src/foundation/audit/record.ts'
import { shipped } from '../../src/cli/home.ts'
import { createSystemRandom } from '../../src/clock.ts'
import type { DownstreamOf } from '../../src/config/downstream.ts'
import { ENDPOINTS } from '../../src/config/provider.ts'
import type { Snapshot } from '../../src/config/snapshot.ts'
import { readConfiguration } from '../../src/daemon/configuration/configuration.ts'
import type { ConnectRequest } from '../../src/flows/connect/attempt.ts'
import { createAttempts } from '../../src/flows/connect/attempt.ts'
import { createAuthorization } from '../../src/flows/connect/authorization.ts'
import { createClientCredentialsConnector } from '../../src/credentials/connector/token-endpoint/client-credentials.ts'
import type { Credential, CredentialRequest } from '../../src/credentials/connector/connector.ts'
import { endSealed } from '../../src/credentials/connector/oauth-grant/upstream-revocation.ts'
import { createOAuthGrantConnector } from '../../src/credentials/connector/oauth-grant/connector.ts'
import { createProviderCalls } from '../../src/credentials/provider/call.ts'
import { createProviderClients } from '../../src/credentials/provider/client.ts'
import { createTokenRequests } from '../../src/credentials/connector/token-endpoint/token-request.ts'
import { keyFromText, newKeyText } from '../../src/foundation/crypto/key-encryption-key.ts'
import { Keyring } from '../../src/foundation/crypto/keyring.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createEgress } from '../../src/foundation/outbound/fetch.ts'
import { noTelemetry } from '../../src/foundation/telemetry/telemetry.ts'
import type { Grant } from '../../src/foundation/store/records/grants.ts'
import { startProviderDouble, type DialectName, type ProviderDouble } from '../doubles/providers.ts'
import { prepareDaemon } from './daemon.ts'
import { someProofs } from './proofs.ts'
import { aClock } from './snapshot.ts'
import { borrowStore } from './stores.ts'

/** The shipped file with its endpoints at another origin. */
export const rebased = async (id: string, origin: string): Promise<Record<string, unknown>> => {
  const file = parse(await readFile(join(shipped.providers, `${id}.yaml`), 'utf8')) as Record<string, unknown>
  const moved = ENDPOINTS.filter((name) => file[name] !== undefined).map((name) => [
    name,
    String(file[name]).replace(/^https:\/\/[^/]+/, origin),
  ])
  return { ...file, ...(Object.fromEntries(moved) as object) }
}

export interface ProviderPlace {
  readonly double: ProviderDouble
  readonly snapshot: Snapshot
  readonly clock: ReturnType<typeof aClock>
  readonly records: AuditRecord[]
  /** Connect URLs that were made, with the claims that go along. */
  readonly links: { readonly scopes: readonly string[]; readonly claims: string | undefined }[]
  /** The user is sent to the service, allows it, and comes back. */
  connect(wish?: Partial<ConnectRequest>): Promise<Grant>
  obtain(scopes?: readonly string[]): Promise<Credential>
  /** A token of the client itself. */
  ofClient(): Promise<Credential>
  revoke(): Promise<string>
  grant(): Promise<Grant | undefined>
  close(): Promise<void>
}

const SCOPES = { read: 'Read', write: 'Write' }

export const startProviderPlace = async (
  id: DialectName,
  options: {
    readonly scopes?: readonly string[]
    readonly client?: object
    readonly downstream?: object
    readonly provider?: object
  } = {},
): Promise<ProviderPlace> => {
  const clock = aClock()
  const random = createSystemRandom()
  const double = await startProviderDouble(id, clock.now)
  const { scopes = ['read', 'write'] } = options
  const client = { client_id: double.client.id, client_secret: { secret: 'client' }, ...options.client }
  const { home, close } = await prepareDaemon({
    'tenants/acme.yaml': {
      tenant: 'acme',
      issuers: [{ issuer: 'https://login.example', claims: { tenant: { claim: 'org', value: 'acme' } } }],
    },
    'servers/notes.yaml': {
      server: 'notes',
      resource: 'https://notes.example/mcp',
      tenants: ['acme'],
      owner: 'notes@example.com',
      status: 'approved',
      attest: [{ unix: { uid: process.getuid!() } }],
      downstreams: { vendor: { scopes } },
      service_downstreams: { app: { scopes: [] } },
    },
    'downstreams/vendor.yaml': {
      downstream: 'vendor',
      credential: 'oauth_grant',
      provider: id,
      client,
      scopes: Object.fromEntries(Object.entries(SCOPES).filter(([scope]) => scopes.includes(scope))),
      ...options.downstream,
    },
    'downstreams/app.yaml': {
      downstream: 'app',
      credential: 'client_credentials',
      provider: id,
      client,
      parameters: { account_id: 'acct' },
      over_scoped: 'mark',
    },
    [`providers/${id}.yaml`]: stringify({ ...(await rebased(id, double.url)), ...options.provider }),
    'policies/access/all.cedar': '@id("all") permit (principal, action, resource);',
  })
  const { configuration, problems } = await readConfiguration({ home, shipped, generation: 1 })
  if (configuration === undefined) throw new Error(JSON.stringify(problems))
  const { snapshot } = configuration
  const borrowed = await borrowStore()
  const { store } = borrowed
  const envelope = await Keyring.open({
    folder: join(home, 'state/place-keys'),
    kek: keyFromText(newKeyText(random), 'test', random),
    random,
  })
  const egress = createEgress({ allowLoopback: true, allowPrivate: [], timeout: 2000 })
  const clients = createProviderClients({
    snapshot: () => snapshot,
    egress,
    ...someProofs(),
    resolveSecret: () => Promise.resolve(new Secret(double.client.secret)),
  })
  const call = createProviderCalls({ telemetry: noTelemetry, clock: { now: () => Date.now() } })
  const attempts = createAttempts({ store: store.attempts, envelope, clock, random })
  const redirectUri = 'https://deputy.example/connect/callback'
  const authorization = createAuthorization({
    clients,
    attempts,
    envelope,
    clock,
    random,
    redirectUri: () => redirectUri,
    endSealed: (grant) => endSealed(connector, grant),
  })
  const records: AuditRecord[] = []
  const links: { scopes: readonly string[]; claims: string | undefined }[] = []
  const connector = createOAuthGrantConnector({
    isVoid: () => false,
    catchUp: () => Promise.resolve(),
    snapshot: () => snapshot,
    grants: store.grants,
    consents: store.consents,
    upstreamRevocations: store.upstreamRevocations,
    envelope,
    clients,
    call,
    clock,
    random,
    connectUrl: (_request: CredentialRequest, wanted, claims) => {
      links.push({ scopes: wanted, claims })
      return Promise.resolve('https://deputy.example/connect/link')
    },
    audit: {
      append: (record) => {
        records.push(record)
        return Promise.resolve()
      },
    },
    telemetry: noTelemetry,
    logger: { info() {}, warn() {}, error() {} } as never,
    owner: 'local',
    shared: false,
    timeout: 2000,
  })
  const requestToken = createTokenRequests({ clients, call, clock })
  const downstream = snapshot.downstreams.get('vendor') as DownstreamOf<'oauth_grant'>
  const owner = { tenant: 'acme', user: 'alice', server: 'notes', downstream: 'vendor' }
  const requestOf = (
    what: string,
    wanted: readonly string[],
    principal: CredentialRequest['principal'],
  ): CredentialRequest => ({
    principal,
    tenant: snapshot.tenants.get('acme')!,
    server: snapshot.servers.get('notes')!,
    downstream: snapshot.downstreams.get(what)!,
    scopes: wanted,
    notAfter: Infinity,
    audiences: [],
    priorActors: [],
    ancestors: [],
    correlationId: 'request-1',
  })
  return {
    double,
    snapshot,
    clock,
    records,
    links,
    async connect(wish = {}) {
      const url = await authorization.begin({
        wish: { ...owner, scopes: [...scopes], correlationId: 'c', ...wish },
        granted: scopes,
        downstream,
        browser: 'browser',
        link: 'link',
      })
      const back = await fetch(url, { redirect: 'manual' })
      const location = back.headers.get('location')
      if (location === null) throw new Error(`the service does not let the user through: ${await back.text()}`)
      const answer = new URL(location)
      const { grant } = await authorization.complete(
        answer,
        await attempts.take('authorization', answer.searchParams.get('state')!),
        downstream,
      )
      return store.grants.put(grant)
    },
    obtain: (wanted = scopes) =>
      connector.obtain(requestOf('vendor', wanted, { kind: 'user', tenant: 'acme', user: 'alice' })),
    ofClient: () =>
      createClientCredentialsConnector({ requestToken }).obtain(
        requestOf('app', [], { kind: 'workload', tenant: 'acme', server: 'notes' }),
      ),
    async revoke() {
      const grant = (await store.grants.find(owner))!
      const orders = await connector.prepare([grant])
      await store.grants.remove({ id: grant.id })
      return connector.revoke(grant, orders.get(grant.id))
    },
    grant: () => store.grants.find(owner),
    async close() {
      await egress.close()
      await borrowed.close()
      await double.close()
      await close()
    },
  }
}
