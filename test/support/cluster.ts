/**
 * Three real daemons on one real Postgres and one real Redis, each with a line of its own to both that can be spoiled,
 * one issuer whose users they serve, and one OAuth service at which the users have grants.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { Agent } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createSystemRandom, systemClock } from '../../src/clock.ts'
import { OWN_TENANT } from '../../src/foundation/crypto/envelope.ts'
import { createFingerprint, type Fingerprint } from '../../src/foundation/crypto/fingerprint.ts'
import { keyFromText, newKeyText } from '../../src/foundation/crypto/key-encryption-key.ts'
import { Keyring } from '../../src/foundation/crypto/keyring.ts'
import { createEmbeddedSecrets } from '../../src/credentials/secret/embedded.ts'
import { migratePostgres, openPostgresStore } from '../../src/foundation/store/postgres/open.ts'
import type { Store } from '../../src/foundation/store/store.ts'
import { startOAuthProvider, type OAuthProviderDouble } from '../doubles/oauth-provider.ts'
import { findPostgres, startPostgres, type PostgresServer } from '../peers/postgres.ts'
import { findRedis, startRedis, type RedisServer } from '../peers/redis.ts'
import { aCompany, RESOURCES } from './configuration.ts'
import {
  ACCESS_TOKEN,
  ask,
  prepareDaemon,
  prepareDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type Answer,
  type Daemon,
  type DaemonHere,
  type Files,
  type RunningDaemon,
  type TestIssuer,
} from './daemon.ts'
import { grantFiles, seedGrantsInto, type SeedOptions } from './grants.ts'
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts'
import { startTcpProxyOnThread } from './tcp-proxy-thread.ts'

export const NODES = ['a', 'b', 'c'] as const

/** A daemon, and what is asked of it. */
export interface AskedNode<D extends RunningDaemon = Daemon> {
  readonly daemon: D
  /** An access token of a user's grant at the notes service. */
  exchange(user: string): Promise<Answer>
  /** A minted token for the ledger. */
  mint(user: string): Promise<Answer>
  admin(path: string, body?: object): Promise<Answer>
  ready(): Promise<Answer>
}

export interface ClusterNode<D extends RunningDaemon = Daemon> extends AskedNode<D> {
  readonly name: string
  readonly toPostgres: TcpProxy
  readonly toRedis: TcpProxy
}

export interface Cluster<D extends RunningDaemon = Daemon> {
  readonly nodes: readonly ClusterNode<D>[]
  readonly postgres: PostgresServer
  readonly database: string
  readonly redis: RedisServer
  readonly issuer: TestIssuer
  readonly provider: OAuthProviderDouble
  /** Gives users a grant each. */
  give(users: readonly string[], options?: SeedOptions): ReturnType<typeof seedGrantsInto>
  /** What names tokens and incarnations in this installation. */
  fingerprint(): Promise<Fingerprint>
  close(): Promise<void>
}

/** Whether the machine has what it takes; if not, that is said loudly. */
export const canCluster = (): boolean => [findPostgres() !== undefined, findRedis()].every(Boolean)

/** A signed-in user's subject token is used again for a while, as a client would. */
export const createSubjects = (issuer: TestIssuer) => {
  const tokens = new Map<string, Promise<string>>()
  return {
    of: (user: string): Promise<string> => {
      let token = tokens.get(user)
      if (token === undefined)
        tokens.set(
          user,
          (token = issuer.sign({
            aud: RESOURCES.notes,
            org: 'acme',
            sub: user,
            exp: Math.floor(Date.now() / 1000) + 7200,
          })),
        )
      return token
    },
    /** Signs in anew: a revocation voids what was given before it. */
    renew: (user: string): void => {
      tokens.delete(user)
    },
  }
}

/** The ways in which tests ask a daemon, over its sockets. */
export const askersOf = <D extends RunningDaemon>(
  daemon: D,
  subjects: Pick<ReturnType<typeof createSubjects>, 'of'>,
): AskedNode<D> => {
  const agent = new Agent({ keepAlive: true, maxSockets: 64 })
  const exchangeFor = async (user: string, audience: string, scope: string): Promise<Answer> =>
    ask(
      { socketPath: daemon.socketPath },
      {
        path: '/oauth2/token',
        agent,
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams({
          grant_type: TOKEN_EXCHANGE,
          subject_token: await subjects.of(user),
          subject_token_type: ACCESS_TOKEN,
          audience,
          scope,
        }).toString(),
      },
    )
  return {
    daemon,
    exchange: (user) => exchangeFor(user, 'notes-api', 'read'),
    mint: (user) => exchangeFor(user, 'ledger', 'ledger:read'),
    admin: (path, body) =>
      ask(
        { socketPath: join(daemon.home, 'run/admin.sock') },
        {
          path,
          ...(body === undefined
            ? {}
            : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
        },
      ),
    ready: () => ask({ socketPath: daemon.socketPath }, { path: '/readyz' }),
  }
}

/** Lengths of time as settings have them. */
interface ClusterOptions {
  readonly lease?: string
  readonly skew?: string
  readonly deadline?: string
  readonly settings?: object
  /** Postgres waits for the disk, as a benchmark needs it. */
  readonly durable?: boolean
  /** The lines to Postgres and Redis are no part of this process, which makes load. */
  readonly linesOnThreads?: boolean
  readonly files?: Files
  readonly notes?: object
}

type StartedCluster<D extends RunningDaemon> = Cluster<D> & { readonly subjects: ReturnType<typeof createSubjects> }

export const startCluster = (given: ClusterOptions = {}): Promise<StartedCluster<Daemon>> =>
  startNodes(prepareDaemon, given)

/** As `startCluster`, with all nodes in this process: where no node is killed, or put to sleep. */
export const startClusterHere = (given: ClusterOptions = {}): Promise<StartedCluster<DaemonHere>> =>
  startNodes(prepareDaemonHere, given)

const startNodes = async <D extends Daemon | DaemonHere>(
  prepare: (files: Files, settings: Record<string, unknown>) => Promise<D>,
  given: ClusterOptions,
): Promise<StartedCluster<D>> => {
  // What has been started ends in the reverse order: with the cluster, or when a later part of it does not start.
  await using started = new AsyncDisposableStack()
  const keys = await mkdtemp(join(tmpdir(), 'deputy-keys-'))
  started.defer(() => rm(keys, { recursive: true, force: true }))
  const random = createSystemRandom()
  const kek = newKeyText(random)
  const postgres = await startPostgres(findPostgres()!, undefined, given.durable === true ? [] : undefined)
  started.defer(() => postgres.close())
  const redis = await startRedis(['save ""'])
  started.defer(() => redis.close())
  const issuer = await startTestIssuer()
  started.defer(() => issuer.close())
  const provider = await startOAuthProvider()
  started.defer(() => provider.close())
  const database = await postgres.createDatabase()
  const reached = { host: '127.0.0.1', database, user: 'deputy', tls: false, pool: 10 }
  const direct = { ...reached, port: postgres.port, password: postgres.password, deadline: 2000 }
  await migratePostgres(direct)
  const subjects = createSubjects(issuer)
  const nodes: ClusterNode<D>[] = []
  let issuerUrl: string | undefined
  for (const name of NODES) {
    const start = given.linesOnThreads === true ? startTcpProxyOnThread : startTcpProxy
    const [toPostgres, toRedis] = [await start(postgres.port), await start(redis.port)]
    const daemon = await prepare(
      {
        ...aCompany({
          issuer: issuer.url,
          notes: given.notes ?? {
            downstreams: { ledger: { scopes: ['ledger:read'] }, 'notes-api': { scopes: ['read'] } },
          },
        }),
        ...given.files,
        ...grantFiles(provider),
        'state/kek': kek,
        'postgres-password': postgres.password,
      },
      {
        node: name,
        keys,
        ...(issuerUrl === undefined ? {} : { issuer: issuerUrl }),
        network: { allow_loopback: true, timeout: '2s' },
        store: {
          postgres: {
            ...reached,
            port: toPostgres.port,
            password: { file: 'postgres-password' },
            ...(given.deadline === undefined ? {} : { deadline: given.deadline }),
          },
        },
        cluster: { lease: given.lease ?? '2s', skew: given.skew ?? '500ms' },
        cache: { redis: { nodes: [`127.0.0.1:${toRedis.port}`], tls: false } },
        ...given.settings,
      },
    )
    started.defer(async () => {
      // One that a test has put to sleep ends when it is awake.
      if ('process' in daemon) daemon.process?.kill('SIGCONT')
      await daemon.close()
      await Promise.all([toPostgres.close(), toRedis.close()])
    })
    issuerUrl ??= `http://127.0.0.1:${daemon.port}`
    nodes.push({ name, toPostgres, toRedis, ...askersOf(daemon, subjects) })
  }
  const starts = await Promise.allSettled(nodes.map(({ daemon }) => daemon.start()))
  for (const start of starts) if (start.status === 'rejected') throw start.reason
  const whole = started.move()
  const opened = async <T>(work: (keysAndStore: { store: Store; envelope: Keyring }) => Promise<T>): Promise<T> => {
    const store = await openPostgresStore({ ...direct, node: 'seed' })
    const envelope = await Keyring.open({ folder: keys, kek: keyFromText(kek, 'test', random), random })
    try {
      return await work({ store, envelope })
    } finally {
      await store.close()
    }
  }
  return {
    nodes,
    postgres,
    database,
    redis,
    issuer,
    provider,
    subjects,
    give: (users, options = {}) => opened((keysAndStore) => seedGrantsInto(keysAndStore, provider, users, options)),
    fingerprint: () =>
      opened(async (keysAndStore) => {
        const secrets = createEmbeddedSecrets({
          ...keysAndStore,
          store: keysAndStore.store.secrets,
          clock: systemClock,
        })
        return createFingerprint((await secrets.read(OWN_TENANT, 'fingerprint-key')).value)
      }),
    close: () => whole.disposeAsync(),
  }
}

/** Sends a request and gives up on the answer after a while: a node may be asleep. */
export const within = async <T>(milliseconds: number, work: Promise<T>): Promise<T | undefined> => {
  let timer: NodeJS.Timeout | undefined
  try {
    return await Promise.race([
      work,
      new Promise<undefined>((resolve) => {
        timer = setTimeout(() => {
          resolve(undefined)
        }, milliseconds)
      }),
    ])
  } finally {
    clearTimeout(timer)
  }
}
