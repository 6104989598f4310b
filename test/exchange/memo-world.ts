/**
 * The token endpoint with everything behind it that decides, as the daemon puts it together, on a clock and files of a test: once with
 * the memo and once without. What has no part in decisions (providers, the disk) is a stand-in without randomness, so that answers can be compared.
 */
import { createHash, generateKeyPairSync } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { createLocalJWKSet, SignJWT, type JWK } from 'jose'
import { downstreamSchema } from '../../src/config/downstream.ts'
import type { Snapshot } from '../../src/config/snapshot.ts'
import { createMintedConnector } from '../../src/credentials/connector/minted/minted.ts'
import type { Connectors, Credential, CredentialRequest } from '../../src/credentials/connector/connector.ts'
import { createSecretVersions } from '../../src/credentials/secret/versions.ts'
import type { CachedCredential } from '../../src/credentials/cache/cached-credential.ts'
import { asDeputyError, refuse } from '../../src/errors.ts'
import { createExchange } from '../../src/flows/exchange/exchange.ts'
import { Memo } from '../../src/flows/exchange/memo.ts'
import { createObtain, createRecall } from '../../src/flows/exchange/obtain.ts'
import type { AuditRecord } from '../../src/foundation/audit/record.ts'
import { createMemoryCache } from '../../src/foundation/cache/memory.ts'
import { createRates } from '../../src/foundation/cache/rates.ts'
import { createFingerprint } from '../../src/foundation/crypto/fingerprint.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import type { SigningKeys } from '../../src/foundation/keys/signing-keys.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import type { Telemetry } from '../../src/foundation/telemetry/telemetry.ts'
import type { Policy } from '../../src/identity/policy/decision.ts'
import { createSubjectVerifier } from '../../src/identity/subject/verify.ts'
import { RevocationIndex } from '../../src/identity/validity/revocation-index.ts'
import { createAttestor } from '../../src/identity/workload/attest.ts'
import type { PeerProcess } from '../../src/identity/workload/caller-evidence.ts'
import type { ExecSession } from '../../src/identity/workload/exec-sessions.ts'
import { tokenEndpoint } from '../../src/listeners/local-api/token.ts'
import { aClock, aServer, aSnapshot, aTenant } from '../support/snapshot.ts'

export const START = Date.UTC(2026, 10, 1)
const ISSUER = 'https://idp.example'
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'
const ACCESS = 'urn:ietf:params:oauth:token-type:access_token'

const downstreams = (ledger: object = {}) =>
  new Map(
    [
      {
        downstream: 'ledger',
        credential: 'minted',
        resource: 'https://ledger.example',
        scopes: { read: 'R', write: 'W' },
        ...ledger,
      },
      { downstream: 'wiki', credential: 'minted', resource: 'https://wiki.example', scopes: { read: 'R', write: 'W' } },
      { downstream: 'mail', credential: 'static', secret: 'mail', scopes: { read: 'R' } },
    ].map((each) => [each.downstream, downstreamSchema.parse(each)]),
  )
const files = (given: { server?: object; tenant?: object; ledger?: object; rates?: object } = {}): Snapshot => ({
  ...aSnapshot({
    servers: [
      aServer({
        attest: [{ unix: { uid: 1000 } }, { exec: { uid: 1000 } }],
        downstreams: { ledger: { scopes: ['read', 'write'] }, wiki: { scopes: ['read'] }, mail: { scopes: ['read'] } },
        ...given.server,
      }),
      aServer({ server: 'other', resource: 'https://other.example/mcp', attest: [{ unix: { uid: 1001 } }] }),
    ],
    tenants: [aTenant({ issuers: [{ issuer: ISSUER }], ...given.tenant })],
    settings: { rates: given.rates ?? {} },
  }),
  downstreams: downstreams(given.ledger),
})

/** Files that are in force one after the other. */
export const FILES: readonly Snapshot[] = [
  files(),
  files(),
  files({ server: { status: 'deprecated', replaced_by: 'other' } }),
  files({ server: { status: 'retired' } }),
  files({ server: { downstreams: { wiki: { scopes: ['read'] } } } }),
  files({ server: { downstreams: { ledger: { scopes: ['read'] }, mail: { scopes: [] } } } }),
  files({ server: { tools: { post: { scopes: ['write'], downstream: 'ledger' } } } }),
  files({ tenant: { enabled: false } }),
  files({ tenant: { issuers: [] } }),
  files({ ledger: { enabled: false } }),
  files({ ledger: { lifetime: '2m' } }),
  files({ rates: { server: { requests: 4, per: '1h' } } }),
  files({ rates: { user: { requests: 3, per: '1h' } } }),
  files({ rates: { tenant: { requests: 5, per: '1h' }, downstream: { requests: 2, per: '1h' } } }),
]

const allow = (
  given: Partial<Pick<Policy, 'readsTime'>>,
  isAllowed: (question: Parameters<Policy['decide']>[0]) => boolean,
): Policy => ({
  readsTime: false,
  ...given,
  decide: (question) => {
    const allowed = isAllowed(question)
    return { allowed, scopes: allowed ? question.scopes : [], policies: [String(allowed)], errors: [] }
  },
})
const userOf = ({ principal }: Parameters<Policy['decide']>[0]): string =>
  principal.kind === 'user' ? principal.user : ''
export const POLICIES: readonly Policy[] = [
  allow({}, () => true),
  allow({}, (question) => userOf(question) !== 'bob'),
  allow({}, ({ scopes }) => !scopes.includes('write')),
  allow({}, ({ downstream }) => downstream.id !== 'mail'),
  allow({ readsTime: true }, ({ now }) => Math.floor(now / 60_000) % 2 === 0),
]

const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const published = createLocalJWKSet({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'k' } as JWK] })
const withdrawn = createLocalJWKSet({ keys: [] })
const signFor = (claims: object): Promise<string> =>
  new SignJWT({ iss: ISSUER, aud: 'https://notes.example/mcp', iat: START / 1000 - 60, ...claims })
    .setProtectedHeader({ alg: 'ES256', kid: 'k', typ: 'at+jwt' })
    .sign(privateKey)
export const TOKENS = await Promise.all([
  signFor({ sub: 'alice', jti: 'a1', exp: START / 1000 + 7200 }),
  signFor({ sub: 'alice', jti: 'a2', exp: START / 1000 + 240 }),
  signFor({ sub: 'bob', jti: 'b1', exp: START / 1000 + 7200, sid: 's1', groups: ['staff'] }),
  signFor({ sub: 'bob', exp: START / 1000 + 7200, aud: 'https://other.example/mcp' }),
])

export const PEERS: readonly PeerProcess[] = [
  { pid: 10, uid: 1000, gid: 1000, startedAt: '1', exe: '/bin/notes' },
  { pid: 11, uid: 1000, gid: 1000, startedAt: '1', exe: '/bin/notes' },
  { pid: 10, uid: 1001, gid: 1000, startedAt: '2' },
]

export interface Asked {
  readonly token: number
  readonly peer: number
  readonly audiences: readonly string[]
  readonly scope?: string | undefined
  readonly tool?: string | undefined
  readonly header?: 'dpop' | 'authorization' | 'traceparent' | undefined
  readonly more?: Readonly<Record<string, string>>
}

const requestOf = ({ token, audiences, scope, tool, header, more }: Asked): IncomingMessage => {
  const form = new URLSearchParams({ grant_type: EXCHANGE, subject_token: TOKENS[token]!, subject_token_type: ACCESS })
  for (const audience of audiences) form.append('audience', audience)
  for (const [name, value] of Object.entries({ scope, tool, ...more })) if (value !== undefined) form.set(name, value)
  const values = {
    dpop: 'no.proof.',
    // Of no form that is read: a secret costs a tenth of a second to check.
    authorization: 'Bearer x',
    traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`,
  }
  const headers = {
    'content-type': 'application/x-www-form-urlencoded',
    ...(header === undefined ? {} : { [header]: values[header] }),
  }
  return Object.assign(Readable.from([Buffer.from(form.toString())]), {
    method: 'POST',
    headers,
    rawHeaders: Object.entries(headers).flat(),
    complete: true,
  }) as unknown as IncomingMessage
}

export interface World {
  readonly clock: ReturnType<typeof aClock>
  readonly revocationIndex: RevocationIndex
  readonly cache: ReturnType<typeof createMemoryCache<CachedCredential>>
  readonly memo: Memo | undefined
  files: Snapshot
  policy: Policy
  sessions: ExecSession[]
  secretVersion: number
  isMember: boolean
  areKeysPublished: boolean
  isLogAway: boolean
  /** Done once, while the next record waits for the disk. */
  meanwhile: ((world: World) => void) | undefined
  /** Requests whose steps were not run. */
  repeats: number
  /** The answer, and all that was recorded and counted for it. */
  ask(asked: Asked): Promise<object>
}

const recorder = (facts: unknown[]): Telemetry => {
  const of = (name: string) => (fact: object) => {
    facts.push([name, fact])
  }
  return {
    ...Object.fromEntries(
      [
        'exchange',
        'attestation',
        'subject',
        'decision',
        'refresh',
        'cache',
        'provider',
        'audit',
        'revocation',
        'upstreamRevocation',
      ].map((name) => [name, of(name)]),
    ),
    span: (_name: string, _attributes: unknown, work: () => Promise<unknown>) => work(),
  } as unknown as Telemetry
}

export const createWorld = (withMemo: boolean): World => {
  const clock = aClock(START)
  const revocationIndex = new RevocationIndex([], [])
  const cache = createMemoryCache<CachedCredential>({ entries: 1000, clock })
  const records: AuditRecord[] = []
  const facts: unknown[] = []
  const telemetry = recorder(facts)
  let drawn = 0
  const random = {
    bytes: (length: number) =>
      createHash('sha512')
        .update(`${(drawn += 1)}`)
        .digest()
        .subarray(0, length),
  }
  const keys = {
    kid: () => 'own',
    algorithm: () => 'ES256',
    sign: (_: string, bytes: Uint8Array) => ({ kid: 'own', signature: createHash('sha512').update(bytes).digest() }),
  } as unknown as SigningKeys
  const isVoid = (entry: CachedCredential): boolean =>
    revocationIndex.findRevocation({ ...entry, grant: entry.credential.grant }) !== undefined
  const minted = createMintedConnector({
    issuer: () => 'https://deputy.example',
    lifetime: () => 300_000,
    keys,
    clock,
    random,
  })
  const fixed = {
    kind: 'static',
    obtain: ({ downstream, scopes }: CredentialRequest): Promise<Credential> =>
      Promise.resolve({
        token: new Secret(`secret ${world.secretVersion}`),
        issuedTokenType: ACCESS,
        tokenType: 'Bearer',
        scopes,
        expiresAt: clock.now() + 600_000,
        overScoped: false,
        auditNote: 'read',
        // From its second version on it rotates.
        ...(world.secretVersion === 1
          ? {}
          : {
              checkout: {
                secret: { tenant: 'acme', backend: 'deputy', secret: downstream.downstream },
                version: String(world.secretVersion),
                mustBeCurrent: false,
              },
            }),
      } as Credential),
  }
  const subjects = createSubjectVerifier({
    snapshot: () => world.files,
    keys: () => (header, token) => (world.areKeysPublished ? published : withdrawn)(header, token),
    introspect: () => Promise.resolve(undefined),
    sessions: undefined as never,
    readMintedToken: () => undefined,
    clientSessions: { find: () => Promise.resolve(undefined) },
    ownIssuer: () => 'https://deputy.example',
    fingerprint: createFingerprint(new Secret(Buffer.alloc(32, 7).toString('base64'))),
    clock,
    telemetry,
  })
  const exec = {
    isToken: () => false,
    byToken: () => {
      throw refuse('exec_session_over', { server: 'notes', problem: 'there is none' })
    },
    of: ({ pid, startedAt }: PeerProcess) =>
      world.sessions.filter((session) => session.pid === pid && session.startedAt === startedAt),
    isLive: (session: ExecSession) => world.sessions.includes(session),
    leased: () => undefined,
  }
  const memo = withMemo
    ? new Memo({
        snapshot: () => world.files,
        policy: () => world.policy,
        revocationIndex,
        exec,
        recall: createRecall({ cache, isVoid }),
        countsUntil: (subject) => subjects.countsUntil(subject),
        clock,
      })
    : undefined
  const exchange = createExchange({
    snapshot: () => world.files,
    attest: createAttestor({
      replays: undefined as never,
      audiences: () => [],
      clusterKeys: undefined as never,
      exec,
      clock,
      unknownCallers: { record: () => Promise.resolve(), list: () => Promise.resolve([]) } as never,
      random,
      telemetry,
    }),
    subjects,
    policy: () => world.policy,
    obtain: createObtain({
      cache,
      connectors: { minted, static: fixed } as unknown as Connectors,
      clock,
      isVoid,
      versionsOf: createSecretVersions({
        embedded: () => Promise.resolve({ sealed: Buffer.from(String(world.secretVersion)) }),
        read: () => Promise.reject(new Error('not used')),
      }),
      forgetSecret: () => undefined,
      lastRevocation: () => revocationIndex.number,
      hasGrant: () => Promise.resolve(true),
      endLease: () => Promise.resolve(),
      logger: silentLogger,
    }),
    checkOut: (checkout, holder, expiresAt) => {
      facts.push(['checkOut', checkout, holder, expiresAt])
      return Promise.resolve(true)
    },
    rates: createRates({ rates: () => world.files.settings.rates }),
    checkProof: () => Promise.reject(refuse('proof_invalid', { problem: 'it is none' })),
    exec,
    revocationIndex,
    membership: {
      catchUp: () => Promise.resolve(),
      assertHeld() {
        if (!world.isMember) throw refuse('membership_lost', { node: 'one', problem: 'test', seconds: 1 })
      },
    },
    audit: {
      async append(record) {
        await Promise.resolve()
        if (world.isLogAway) throw refuse('audit_unavailable', { sink: 'store', problem: 'test' })
        records.push(JSON.parse(JSON.stringify(record)) as AuditRecord)
        const { meanwhile } = world
        world.meanwhile = undefined
        meanwhile?.(world)
      },
    },
    telemetry,
    clock,
    memo,
  })
  let count = 0
  const world: World = {
    clock,
    revocationIndex,
    cache,
    memo,
    files: FILES[0]!,
    policy: POLICIES[0]!,
    sessions: [],
    secretVersion: 1,
    isMember: true,
    areKeysPublished: true,
    isLogAway: false,
    meanwhile: undefined,
    repeats: 0,
    async ask(asked) {
      const [firstRecord, firstFact] = [records.length, facts.length]
      let answer: object = {}
      const response = {
        writeHead: (status: number, headers: object) => void (answer = { status, headers }),
        end: (text: string) => void (answer = { ...answer, text }),
      } as unknown as ServerResponse
      const endpoint = tokenEndpoint({
        exchange: {
          ...exchange,
          repeat: (...given) => {
            const repeated = exchange.repeat(...given)
            if (repeated !== undefined) world.repeats += 1
            return repeated
          },
        },
        snapshot: () => world.files,
        peer: () => Promise.resolve(PEERS[asked.peer]),
      })
      try {
        await endpoint(requestOf(asked), response, `c${(count += 1)}`)
      } catch (thrown) {
        const { code, facts: said, cause } = asDeputyError(thrown)
        answer = { code, said, ...(code === 'internal' ? { cause: String(cause) } : {}) }
      }
      // In which order they were counted does not matter.
      const counted = facts
        .slice(firstFact)
        .map((fact) => JSON.stringify(fact))
        .sort()
      return { answer, records: records.slice(firstRecord), counted }
    },
  }
  return world
}
