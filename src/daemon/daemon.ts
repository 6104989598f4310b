/**
 * The composition root: builds every room, passes each what it needs, and runs the daemon's life. Nothing else in
 * `src/` makes a clock, reads the environment or opens a network.
 */
import type { Socket } from 'node:net'
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import express, { type Request } from 'express'
import type { Clock, Random } from '#clock'
import {
  checkPrivateFiles,
  differingNodes,
  formatProblem,
  keeps,
  loadAtStart,
  pagesUrlOf,
  type Problem,
  type Settings,
  socketFolderProblems,
} from '#config'
import { type CachedCredential, createConfigurationDigest, createSharedCredentials } from '#credentials/cache'
import {
  createConnectors,
  createEndReplaced,
  createGitHubTokens,
  createOAuthGrantConnector,
  createProviderRequests,
  createStatusIndex,
  createTokenRequests,
  endSealed,
} from '#credentials/connector'
import {
  createClientAssertions,
  createIdentityProviders,
  createProviderCalls,
  createProviderClients,
} from '#credentials/provider'
import { createLeases, createSecretBackends, createSecretResolver, createSecretVersions } from '#credentials/secret'
import { CurrentConfiguration, readConfiguration, type ReloadResult, type Shipped } from '#daemon/configuration'
import { nodeName, openGround, redisOptions } from '#daemon/foundation'
import { type DeputyError, refuse } from '#errors'
import { createConnect, createIdentityTokens, createSealedSessions } from '#flows/connect'
import {
  createExchange,
  createExecBegin,
  createIdentityAssertions,
  createMintedLife,
  createObtain,
  createServerView,
  createStatusLists,
  createSubjectState,
  createTokenState,
  holderOf,
  isLeaseWanted,
} from '#flows/exchange'
import { createEndAgain, createLookAgain, createRevoker, keepOrders, restoreOrders } from '#flows/revocation'
import { createHolders, createRotation, withRotations } from '#flows/rotation'
import { oneAtATime, within } from '#foundation/async'
import { createFileSink, DurableAuditLog, verifyChains } from '#foundation/audit'
import { createMemoryCache, createRates } from '#foundation/cache'
import { createIncarnations, NodeLease, onlyNode } from '#foundation/cluster'
import { Secret } from '#foundation/crypto'
import { asStartFailure } from '#foundation/files'
import { createEgress, createProofs, readHostRoutes } from '#foundation/outbound'
import { type ClusterStore, rememberGrants, type RotatedSecret } from '#foundation/store'
import {
  consoleToLog,
  createCorrelation,
  createLogger,
  createOpenTelemetry,
  createOutageLog,
  type Logger,
} from '#foundation/telemetry'
import {
  createClaimWatch,
  createIntrospection,
  createIssuerKeys,
  createIssuerMetadata,
  createMintedTokenReader,
  createNameRecorder,
  createSubjectVerifier,
  createUserDirectory,
  NAME_MEMORY_MS,
  type WatchClaims,
} from '#identity/subject'
import { createLastingUses, Standing, voidsGrant } from '#identity/validity'
import {
  createAttestor,
  createClientSecretCheck,
  createExecSessions,
  createPeers,
  createProofCheck,
  readPeerCredentials,
  registryOf,
} from '#identity/workload'
import { createAdminApi } from '#listeners/admin-api'
import { createRedisDoors, openPostgresDoor } from '#listeners/database-proxy'
import {
  createCallerGuard,
  discoveryDocument,
  type Listener,
  listenOnPort,
  listenOnSocket,
  paths,
  publicMetadataDocument,
  socketHosts,
  tcpHosts,
  withCheckedHead,
} from '#listeners/http'
import { openProxy } from '#listeners/http-proxy'
import { createLocalApi } from '#listeners/local-api'
import {
  clientDocuments,
  createMetricsEndpoint,
  identityAssertionEndpoint,
  identityAssertionMetadata,
  statusEndpoint,
} from '#listeners/public'
import { createBackChannelLogout, createSignalReceiver } from '#listeners/security-events'
import { watchConfiguration } from './configuration-watch.ts'
import { createOwnKeys } from './own-keys.ts'
import { historyState, orUnread } from './store-state.ts'

export interface DaemonOptions {
  /** The configuration folder. */
  readonly home: string
  readonly shipped: Shipped
  readonly version: string
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly clock: Clock
  readonly random: Random
  /** Default: pino to standard output. */
  readonly logger?: Logger
  /** Tests end the process at points of a rotation. */
  readonly atFaultPoint?: (point: string) => void
}

export interface Daemon {
  readonly addresses: {
    readonly socket: string
    readonly admin: string
    readonly tcp: string | null
    readonly proxy: readonly string[]
    readonly connect: string
    readonly metrics: string | null
  }
  reload(): Promise<ReloadResult>
  /** Resolves when another daemon has this node's name and this one has to end; it hands out nothing any more. */
  readonly replaced: Promise<DeputyError>
  /** Stops accepting, lets requests under way finish, closes the books. */
  stop(): Promise<void>
}

/** How often what has expired is swept, keys are looked at and providers are told again (ms). */
const HOUSEKEEPING = 60_000
/** The last audit records that are kept in memory, to be written again where a shared store loses them (bytes). */
const RECENT_RECORDS_BYTES = 16_777_216
/** Under which name it is remembered that an issuer names sessions, and for how long (ms). */
const [NAMES_SESSIONS, ISSUER_MEMORY] = ['names sessions', 400 * 86_400_000]
/** How long readiness waits for the store (ms). */
const PING_PATIENCE = 500
/** How long a status list takes tokens (ms). */
const STATUS_PERIOD = 600_000
/** How long the revocation of a grant is remembered (ms): access tokens are cached for a day at most, and the grant itself is gone. */
const GRANT_MEMORY = 31 * 86_400_000

/** `ok`, or how many problems there are and the first of them. */
const shortOf = ([first, ...others]: readonly Problem[]): string =>
  first === undefined
    ? 'ok'
    : `${first.file}:${first.line}: ${first.message}${others.length === 0 ? '' : ` (and ${others.length} more; run deputy check)`}`

/** @throws DeputyError `config_invalid`, `start_failed` and others of the taxonomy, nothing else; nothing is left open then */
export const startDaemon = async (options: DaemonOptions): Promise<Daemon> => {
  const { clock, random } = options
  const home = resolve(options.home)
  const read = await readConfiguration({ home, shipped: options.shipped, generation: 1, load: loadAtStart })
  if (read.configuration === undefined)
    throw refuse('config_invalid', { problem: read.problems.map(formatProblem).join('\n').replace(/\.$/, '') })
  const configuration = new CurrentConfiguration(read.configuration, options.shipped)
  const { snapshot, policy } = configuration
  const { settings } = snapshot()
  const plainLogger = options.logger ?? createLogger({ level: settings.log.level })
  if (options.logger === undefined) consoleToLog(plainLogger)
  const outages =
    settings.store === 'embedded'
      ? undefined
      : createOutageLog({ logger: plainLogger, store: nameOf(settings.store), elapsed: () => performance.now() })
  const logger = outages?.logger ?? plainLogger
  const tellWarnings = (warnings: readonly Problem[]): void => {
    for (const { message, ...where } of warnings) logger.warn(where, message)
  }
  tellWarnings(read.warnings)

  const closers: (() => Promise<void> | void)[] = []
  const closeAll = async (): Promise<void> => {
    for (const close of closers.splice(0).reverse()) {
      try {
        await close()
      } catch (error) {
        logger.error({ err: error }, 'something did not close cleanly')
      }
    }
  }
  try {
    return await build()
  } catch (error) {
    await closeAll()
    throw asStartFailure(error)
  }

  async function build(): Promise<Daemon> {
    /** What nobody waits for, until the daemon ends. */
    const settling = new Set<Promise<unknown>>()
    const settle = (problem: string, work: Promise<unknown>): void => {
      const done: Promise<unknown> = work
        .catch((error: unknown) => {
          logger.error({ err: error }, problem)
        })
        .finally(() => {
          settling.delete(done)
        })
      settling.add(done)
    }
    const observed = await createOpenTelemetry({
      version: options.version,
      otlp: settings.telemetry.otlp,
      tenantLabel: settings.telemetry.tenant_label,
    })
    const { telemetry } = observed
    closers.push(() => observed.shutdown())

    // Ground floor: keys, store, audit.
    const ground = await openGround(settings, { home, environment: options.environment, clock, random, logger })
    closers.push(ground.close)
    const { envelope, secrets, signingKeys, fingerprint, cookieKey, alone } = ground
    const recentGrants = rememberGrants(ground.store.grants, () => performance.now())
    // A store that one process holds does not go back under it.
    const store = ground.store.cluster === undefined ? ground.store : { ...ground.store, grants: recentGrants }
    const ownKeys = createOwnKeys({ ground, settings, home, clock, random, logger })
    const prove = (text: string): string => fingerprint(new Secret(text))
    let watch: ReturnType<typeof createLookAgain> | undefined
    const replaced = Promise.withResolvers<DeputyError>()
    const audit = await DurableAuditLog.open({
      store: store.audit,
      sinks: settings.audit.files.map(({ path }) => createFileSink(resolve(home, path))),
      clock,
      deadline: settings.audit.deadline,
      checkpointEvery: settings.audit.checkpoint_every,
      sign: (bytes) => signingKeys.sign('checkpoint', bytes),
      telemetry,
      logger,
      ...(store.cluster === undefined
        ? {}
        : {
            losses: {
              keep: RECENT_RECORDS_BYTES,
              prove,
              newId: () => newId(random),
              noticed: (lost) => {
                watch?.recordsLost(lost)
              },
            },
          }),
    })
    closers.push(() => audit.close())
    await ground.alone(() =>
      restoreOrders({ store, audit, fingerprint, now: clock.now(), correlationId: newId(random), logger }),
    )
    const standing = new Standing(
      await store.revocations.list(),
      await store.disabledUsers.list(),
      await store.frozenTenants.list(),
    )
    const cache = createMemoryCache<CachedCredential>({ entries: settings.cache.entries, clock })
    const isVoid = (entry: CachedCredential): boolean =>
      standing.covering({ ...entry, grant: entry.credential.grant }) !== undefined
    const node = nodeName(settings, { home, environment: options.environment, clock, random })
    const incarnations = createIncarnations(node, fingerprint)
    const incarnation = incarnations.idOf(clock.now(), newId(random))
    const isVoidGrant = voidsGrant(standing)
    const lookAgain = (watch = createLookAgain({
      store,
      grants: recentGrants,
      standing,
      audit,
      fingerprint,
      emptyCaches: () => {
        cache.purge(() => true)
      },
      endAgain: (revocations) => {
        settle('what a revocation had ended was not ended again', endAgain(revocations))
      },
      node,
      now: () => clock.now(),
      newId: () => newId(random),
      logger,
    }))
    const sessions = createSealedSessions({ store: store.sessions, envelope, node, logger })
    const membership =
      store.cluster === undefined
        ? onlyNode(node, clock)
        : await NodeLease.start({
            store: store.cluster,
            node,
            incarnation,
            startOf: incarnations.startOf,
            ...settings.cluster,
            clock,
            monotonic: () => performance.now(),
            logger,
            newToken: () => newId(random),
            renewed: () => outages?.answered(),
            lookAgain: lookAgain.lookAgain,
            replaced: replaced.resolve,
            async apply(changes) {
              standing.replace(await keepOrders({ store, standing, fingerprint, logger }, changes))
              for (const revocation of changes.revocations) {
                standing.add(revocation)
                if (revocation.scope.kind === 'tenant') envelope.forget(revocation.scope.tenant)
              }
              if (changes.revocations.length > 0) cache.purge(isVoid)
            },
          })
    closers.push(() => membership.close())

    const redis = await redisOptions(settings, { home, environment: options.environment, clock, random })
    const bytes =
      redis === undefined
        ? undefined
        : (await import('#foundation/redis')).createSharedBytes(redis, { logger, monotonic: () => performance.now() })
    closers.push(() => bytes?.close())
    const rates = createRates({
      rates: () => snapshot().settings.rates,
      redis: bytes === undefined ? undefined : { client: bytes.client, logger },
      monotonic: () => performance.now(),
    })

    // Who calls, and for whom.
    const egress = createEgress({
      allowLoopback: settings.network.allow_loopback,
      allowPrivate: settings.network.allow_private,
      timeout: settings.network.timeout,
      routes: await readHostRoutes(home, settings.network.hosts),
      traceparent: () => observed.traceparent(),
    })
    closers.push(() => egress.close())
    const correlation = createCorrelation()
    const backends = await createSecretBackends(settings.secrets.backends, {
      embedded: secrets,
      home,
      environment: options.environment,
      clock,
      monotonic: () => performance.now(),
      logger,
      version: options.version,
      correlationId: () => correlation.current(),
      own: ground.own,
      keeping: {
        store: store.backendTokens,
        envelope,
        hasLeases: (accessor) => store.leases.hasParent(accessor),
        ended: (accessor) => leases.lose(accessor),
      },
      violated: (error) =>
        audit.append({
          id: newId(random),
          event: 'secret.unwrap',
          outcome: 'failed',
          detail: {
            error: error.code,
            backend: String(error.facts['backend']),
            problem: String(error.facts['problem']),
          },
        }),
    })
    closers.push(() => backends.close())
    const holders = createHolders({
      store: store.secretHolders,
      node,
      clock,
      outdated: (secret) => {
        backends.forget(secret)
      },
      currentOf: async ({ tenant, backend, secret }) =>
        (await backends.get(backend)?.read(tenant, secret))?.version ?? '',
    })
    const execSessions = createExecSessions({
      clock,
      random,
      over(session, error) {
        settle(
          'the end of an exec session was not written down',
          Promise.all([
            holders.forget({ server: session.server, user: session.user ?? null, process: holderOf(session) }),
            audit.append({
              id: session.id,
              event: 'exec.end',
              outcome: 'done',
              tenant: session.tenant,
              server: session.server,
              ...(session.user === undefined ? {} : { user: session.user }),
              detail: {
                session: session.id,
                child: session.pid,
                ...(error === undefined
                  ? {}
                  : { error: { code: error.code, message: error.message, next: error.next } }),
              },
            }),
          ]),
        )
      },
      release(session, given) {
        settle(
          'leases of an exec session that is over were not ended',
          Promise.all(
            given.map((grant) =>
              revoker.revoke({
                scope: { kind: 'grant', grant },
                by: `exec session ${session.id}`,
                reason: 'the server that had it has ended',
                correlationId: newId(random),
              }),
            ),
          ),
        )
      },
    })
    closers.push(async () => {
      execSessions.close()
      await Promise.all(settling)
    })
    const secretChanged = ({ tenant, ...secret }: RotatedSecret): void => {
      execSessions.changed(
        [...snapshot().downstreams.values()].filter((each) => keeps(each, secret)).map(({ downstream }) => downstream),
        tenant,
      )
    }
    const rotation = createRotation({
      home,
      snapshot,
      rotations: store.rotations,
      envelope,
      backends,
      holders,
      ownKeys,
      egress,
      audit,
      clock,
      monotonic: () => performance.now(),
      random,
      logger,
      node,
      owner: incarnation,
      shared: store.cluster !== undefined,
      changed: secretChanged,
      resolveSecret: createSecretResolver({
        read: (secret) => backends.read(secret),
        home,
        environment: options.environment,
      }),
      ...(options.atFaultPoint === undefined ? {} : { at: options.atFaultPoint }),
    })
    closers.push(() => rotation.close())
    const resolveSecret = createSecretResolver({ read: rotation.read, home, environment: options.environment })
    const issuer = (): string => settings.issuer
    const metadata = createIssuerMetadata({ egress, clock })
    const issuerKeys = createIssuerKeys({ egress, clock, metadata })
    const { tcp: tcpAddress, metrics: metricsAddress } = settings.listen
    const tcpBases = tcpAddress === null ? [] : [...tcpHosts(tcpAddress.port)].map((host) => `http://${host}`)
    const tokenUrlOf = (base: string): string => `${base.replace(/\/$/, '')}${paths.token}`
    const attest = createAttestor({
      exec: execSessions,
      clusterKeys: (cluster) => issuerKeys({ issuer: cluster }),
      replays: store.replays,
      unknownCallers: store.unknownCallers,
      clock,
      random,
      telemetry,
      audiences: () => [issuer(), tokenUrlOf(issuer())],
      // To a client that has discovered the port, its address is the issuer.
      localAudiences: tcpBases.flatMap((base) => [base, tokenUrlOf(base)]),
    })
    const checkProof = createProofCheck({
      urls: () => [issuer(), 'http://localhost', ...tcpBases].map(tokenUrlOf),
      needsNonce: () => snapshot().settings.tokens.dpop_nonce,
      replays: store.replays,
      fingerprint,
      clock,
    })
    const readMintedToken = createMintedTokenReader({ keys: signingKeys, issuer, clock })
    const namingSessions = new Set<string>()
    /** Which issuers name sessions is remembered for all nodes: the events about them may arrive at another one. */
    const sessionNamed = (of: { readonly tenant: string; readonly issuer: string }): void => {
      const key = JSON.stringify([of.tenant, of.issuer])
      if (namingSessions.has(key)) return
      namingSessions.add(key)
      settle(
        'that an issuer names sessions was not written down',
        store.replays.claim(NAMES_SESSIONS, key, clock.now() + ISSUER_MEMORY),
      )
    }
    const namesSessions = async (of: { readonly tenant: string; readonly issuer: string }): Promise<boolean> => {
      const key = JSON.stringify([of.tenant, of.issuer])
      return namingSessions.has(key) || (await store.replays.has(NAMES_SESSIONS, key, clock.now()))
    }
    const watchGroups = createClaimWatch({ logger })
    const recordName = createNameRecorder({
      names: store.userNames,
      fingerprint,
      clock,
      inBackground: (work) => {
        settle('the name of a user was not written down', work)
      },
    })
    const watchClaims: WatchClaims = (...seen) => {
      watchGroups(...seen)
      recordName(...seen)
    }
    const subjects = createSubjectVerifier({
      watchClaims,
      snapshot,
      keys: issuerKeys,
      introspect: createIntrospection({ egress, clock, metadata, resolveSecret, fingerprint }),
      sessions,
      readMintedToken,
      ownIssuer: issuer,
      fingerprint,
      sessionNamed,
      clock,
      telemetry,
    })

    // Credentials.
    const pagesUrl = pagesUrlOf(settings)
    const clients = createProviderClients({
      snapshot,
      egress,
      proofs: createProofs({ clock, random }),
      assertClient: createClientAssertions({ keys: signingKeys, clock, random }),
      resolveSecret,
    })
    const call = createProviderCalls({ telemetry, clock, shared: bytes })
    const identityProviders = createIdentityProviders({ snapshot, egress, resolveSecret })
    const identityTokens = createIdentityTokens({
      snapshot,
      store: store.identityTokens,
      envelope,
      fingerprint,
      standing,
      clock,
    })
    const publicMetadata = () => ({
      ...publicMetadataDocument(issuer()),
      ...identityAssertionMetadata(snapshot, pagesUrl),
    })
    const connect = createConnect({
      watchClaims,
      identityProviders,
      identityTokens,
      snapshot,
      store: { attempts: store.attempts, consents: store.consents, grants: store.grants, sessions },
      envelope,
      egress,
      clients,
      clock,
      random,
      resolveSecret,
      audit,
      logger,
      standing,
      membership,
      endReplaced: (replacedGrant, by) => {
        settle('a grant that was replaced was not ended at its provider', endReplaced(replacedGrant, by))
      },
      endSealed: (grant) => endSealed(oauthGrant, grant),
      baseUrl: () => pagesUrl,
      cookieKey,
      jwks: () => signingKeys.jwks('token', 'cloud'),
      metadata: publicMetadata,
      discovery: () => discoveryDocument(publicMetadata()),
    })
    const oauthGrant = createOAuthGrantConnector({
      snapshot,
      grants: store.grants,
      consents: store.consents,
      upstreamRevocations: store.upstreamRevocations,
      envelope,
      clients,
      call,
      clock,
      random,
      connectUrl: connect.connectUrl,
      isVoid: isVoidGrant,
      catchUp: () => membership.catchUp(),
      audit,
      telemetry,
      logger,
      owner: incarnation,
      shared: store.cluster !== undefined,
      timeout: settings.network.timeout,
    })
    closers.push(() => oauthGrant.close())
    const endReplaced = createEndReplaced({ upstream: oauthGrant, envelope })
    const isLive = createMintedLife({ snapshot, standing })
    const statusLists = createStatusLists({
      snapshot,
      audit: store.audit,
      keys: signingKeys,
      standing,
      membership,
      baseUrl: () => `${pagesUrl}/status`,
      period: STATUS_PERIOD,
      longestToken: () => snapshot().settings.tokens.lifetime,
      clock,
    })
    const tokensAt = createGitHubTokens({ egress, call })
    const leases = createLeases({
      store: store.leases,
      envelope,
      backendOf: (id) => backends.leased(id) ?? tokensAt(id),
      audit,
      clock,
      random,
      logger,
      isVoid: ({ id, tenant, user, server, downstream, createdAt }) =>
        standing.covering({
          tenant,
          user: user ?? undefined,
          server,
          downstreams: [downstream],
          grant: id,
          tokens: [],
          since: createdAt,
        }) !== undefined,
      isWanted: (lease) => isLeaseWanted(snapshot(), lease),
      lost: (ended) => cache.purge(({ credential: { grant } }) => grant !== undefined && ended.has(grant)),
    })
    closers.push(() => leases.close())
    const obtain = createObtain({
      shared:
        bytes === undefined
          ? undefined
          : createSharedCredentials({
              bytes,
              envelope,
              fingerprint,
              generationOf: createConfigurationDigest(snapshot),
              clock,
              logger,
            }),
      cache,
      clock,
      logger,
      isVoid,
      versionsOf: createSecretVersions({
        embedded: (tenant, name) => store.secrets.find(tenant, name, 'current'),
        kept: (secret) => rotation.read(secret),
      }),
      lastRevocation: () => standing.number,
      hasGrant: async (grant) => (await store.grants.get(grant)) !== undefined,
      endLease: async (lease) => {
        await leases.end([{ id: lease }])
      },
      connectors: createConnectors({
        idJag: { identityToken: identityTokens.find, identityProviders, call, connectUrl: connect.connectUrl },
        oauthGrant,
        leases,
        tokensAt,
        backends,
        clients,
        requestToken: createTokenRequests({ clients, call, clock }),
        ask: createProviderRequests({ egress, call, clock }),
        call,
        egress,
        resolveSecret,
        keys: signingKeys,
        readSecret: rotation.read,
        termsOf: rotation.termsOf,
        clock,
        random,
        minted: {
          issuer,
          lifetime: () => snapshot().settings.tokens.lifetime,
          status: settings.tokens.status_list
            ? {
                next: createStatusIndex({ node: store.audit.node, period: STATUS_PERIOD, clock, random }),
                uriOf: statusLists.uriOf,
              }
            : undefined,
        },
      }),
    })

    // The lines.
    const lasting = createLastingUses({ snapshot, standing, membership })
    closers.push(() => {
      lasting.close()
    })
    const exchange = createExchange({
      exec: execSessions,
      snapshot,
      attest,
      subjects,
      policy,
      obtain,
      hold: holders.hold,
      rates,
      checkProof,
      standing,
      membership,
      audit,
      telemetry,
      clock,
    })
    const revoker = withRotations(
      createRevoker({
        store,
        standing,
        envelope,
        membership,
        snapshot,
        upstream: oauthGrant,
        leases,
        audit,
        telemetry,
        logger,
        clock,
        random,
        grantMemory: GRANT_MEMORY,
        // The revocation stands by now: what it covers is what `Standing` says it covers.
        purge: () => cache.purge(isVoid),
      }),
      rotation,
      logger,
    )
    const endAgain = createEndAgain({
      store,
      snapshot,
      upstream: oauthGrant,
      sweepLeases: async () => {
        await leases.sweep()
      },
      logger,
    })
    const subjectState = createSubjectState({
      subjects,
      readMinted: readMintedToken,
      isLive,
      snapshot,
      standing,
      membership,
      audit,
    })
    const serverView = createServerView({ snapshot, attest, subjectState, policy, issuer, clock })
    const tokens = createTokenState({
      snapshot,
      attest,
      read: readMintedToken,
      isLive,
      subjectState,
      membership,
      revoker,
      audit,
      clock,
    })

    // The edges.
    let draining = false
    const correlationId = (): string => newId(random)
    const peers = createPeers(() => registryOf(snapshot()).wants)
    /** A node that has no lease knows already that the store is away; one that has waits a moment for the answer to a ping. */
    const pingProblem = (): Promise<string | undefined> => {
      const late = (): Error => new Error(`The store did not answer: no answer within ${PING_PATIENCE} ms.`)
      return within(PING_PATIENCE, store.ping(), late).then(
        () => undefined,
        (error: unknown) => (error as Error).message,
      )
    }
    const readiness = async () => {
      // Each renewal is a write that the shared store confirms: a ping would say ok of one that is read-only or whose commits hang.
      const storeProblem = membership.status().store ?? (await pingProblem())
      const keyService = await ground.keyService()
      const sinks = audit.status().filter(({ ok }) => !ok)
      const node = membership.status()
      return {
        ready: !draining && storeProblem === undefined && sinks.length === 0 && node.held,
        checks: {
          ...(bytes === undefined ? {} : { redis: bytes.problem() ?? 'ok', rates: rates.problem() ?? 'ok' }),
          daemon: draining ? 'draining' : 'ok',
          node: node.problem ?? 'ok',
          store: storeProblem ?? 'ok',
          audit: sinks.length === 0 ? 'ok' : sinks.map(({ name, problem }) => `${name}: ${problem}`).join('; '),
        },
        backends: { ...backends.status(), ...(keyService === undefined ? {} : { 'key service': keyService }) },
      }
    }
    const trace = <T>(origin: { traceparent: string | undefined; id: string }, name: string, work: () => Promise<T>) =>
      observed.within(origin.traceparent, () => correlation.within(origin.id, () => telemetry.span(name, {}, work)))
    const localApi = (guard: Parameters<typeof createLocalApi>[0]['guard']) =>
      createLocalApi({
        snapshot,
        exchange,
        tokens,
        serverView,
        jwks: () => signingKeys.jwks('token', 'cloud'),
        peer: (request) => peers.of(request.socket) ?? Promise.resolve(undefined),
        guard,
        readiness,
        login: {
          start: connect.startLogin,
          find: (uid) => sessions.find(uid, clock.now()),
          end: async (uid) => {
            await store.sessions.remove({ uid })
          },
        },
        exec: {
          begin: createExecBegin({ snapshot, standing, membership, subjects, sessions: execSessions, lasting, audit }),
          proxy: () => proxy.forPrograms,
        },
        trace,
        correlationId,
        telemetry,
        logger,
      })
    const limits = { headerTimeout: settings.limits.header_timeout, requestTimeout: settings.limits.request_timeout }
    const listeners: Listener[] = []
    const opened = async (listener: Promise<Listener>): Promise<Listener> => {
      listeners.push(await listener)
      return listener
    }
    closers.push(async () => {
      await Promise.all(listeners.map((listener) => listener.close(settings.limits.drain)))
    })

    let redisDoors: ReturnType<typeof createRedisDoors> | undefined
    const describeNode = async (): Promise<void> => {
      await store.cluster?.describe(incarnation, JSON.stringify(configuration.fingerprints)).catch((error: unknown) => {
        logger.debug({ err: error }, 'the store was not told by which configuration this node decides')
      })
    }
    await describeNode()
    const reload = async (): Promise<ReloadResult> => {
      const result = await configuration.reload()
      if (result.applied) await describeNode()
      if (result.applied) await rotation.reconcile()
      if (result.applied) await leases.sweep()
      if (result.applied)
        await redisDoors?.reconcile().catch((error: unknown) => {
          logger.error({ err: error }, 'the socket of a Redis downstream could not be opened')
        })
      if (result.applied)
        logger.info(
          { generation: result.generation, restart_needed: result.restart_needed },
          'the configuration was read again',
        )
      else logger.error({ problems: result.problems }, 'reload rejected; keeping the current configuration')
      await audit.append({
        id: correlationId(),
        event: 'config.reload',
        outcome: result.applied ? 'done' : 'failed',
        detail: { generation: result.generation, problems: result.problems, restart_needed: result.restart_needed },
      })
      return result
    }
    const by = (request: Request): string => {
      const peer = readPeerCredentials(request.socket)
      return peer === undefined ? 'the admin socket' : `uid ${peer.uid}`
    }
    const adminApi = createAdminApi({
      users: createUserDirectory({ names: store.userNames, fingerprint }),
      fingerprint,
      snapshot,
      store,
      standing,
      membership,
      secrets,
      secretChanged,
      leases,
      revoker,
      rotation,
      policy,
      audit,
      by,
      correlationId,
      logger,
      reload,
      now: () => clock.now(),
      verifyAudit: () =>
        verifyChains(
          store.audit,
          (kid, bytes, signature) => signingKeys.verify('checkpoint', kid, bytes, signature),
          prove,
        ),
      status: async () => ({
        version: options.version,
        pid: process.pid,
        home,
        environment: settings.environment,
        generation: snapshot().generation,
        ...(await statusChecks()),
        node: membership.status(),
        // What the store knows is left out while it is away: the rest is what an admin needs then.
        nodes: (await store.cluster?.nodes().catch(() => [])) ?? [],
        durability: (await store.cluster?.durability().catch(() => null)) ?? null,
        upstream_revocations: await upstreamCounts().catch(() => null),
        providers: call.troubles(),
        proxy: proxy.addresses,
        audit: audit.status(),
        cache: { entries: cache.size },
        started_at: startedAt,
        counts: {
          tenants: snapshot().tenants.size,
          servers: snapshot().servers.size,
          downstreams: snapshot().downstreams.size,
          providers: snapshot().providers.size,
          policies: configuration.policyIds.length,
        },
        memory: { rss: process.memoryUsage.rss() },
      }),
      async rotateKeys(keys) {
        if (keys === 'signing') return { kid: (await ownKeys.rotate('signing-keys')).id }
        const { id, rewrapped } = await (ownKeys.canRotate('key-encryption-key')
          ? ownKeys.rotate('key-encryption-key')
          : ownKeys.rewrap())
        return { kek: id, rewrapped }
      },
    })

    /** For the admin alone: these name files. */
    const statusChecks = async () => {
      const { ready, checks, backends: services } = await readiness()
      const files = await checkPrivateFiles(configuration.privateFiles)
      return {
        ready,
        checks: {
          ...services,
          ...checks,
          history: await historyState(store.losses),
          configuration: shortOf(configuration.refused),
          ...(store.cluster === undefined
            ? {}
            : { same_configuration: await orUnread(sameConfiguration(store.cluster)) }),
          secret_files: shortOf([...files.problems, ...files.warnings]),
        },
      }
    }
    /** Which other nodes decide by other files than this one, and since when. */
    const sameConfiguration = async (cluster: ClusterStore): Promise<string> => {
      // Said again with each look: a node whose row was lost has a new one.
      await describeNode()
      const others = (await cluster.nodes()).filter(({ about, leaseLeft }) => about !== node && leaseLeft > 0)
      return differingNodes(configuration.fingerprints, others)
    }
    observed.gauge(
      'deputy.configuration.refused',
      'Whether the configuration folder as it is now was refused; what was read before it is in force',
      () => (configuration.refused.length > 0 ? 1 : 0),
    )
    const upstreamCounts = async () => {
      const { queued = [], irrevocable = [] } = Object.groupBy(
        await store.upstreamRevocations.list(),
        ({ state }) => state,
      )
      return { queued: queued.length, irrevocable: irrevocable.length }
    }
    const startedAt = new Date(clock.now()).toISOString()
    await audit.append({
      id: correlationId(),
      event: 'daemon.start',
      outcome: 'done',
      detail: { version: options.version, environment: settings.environment, pid: process.pid },
    })
    const proxy = await openProxy({
      settings,
      home,
      own: ground.own,
      snapshot,
      exchange,
      attest,
      startedFor: (evidence) => execSessions.startedFor(evidence),
      audit,
      peers,
      opened,
      closers,
      correlationId,
      clock,
      random,
      logger,
      socketHosts: socketHosts(issuer()),
      trace,
    })
    const socket = await opened(
      listenOnSocket(localApi(createCallerGuard(socketHosts(issuer()))), {
        ...limits,
        setting: 'listen.socket',
        path: resolve(home, settings.listen.socket),
        mode: settings.listen.socket_mode,
        onConnection: (connection) => {
          peers.greet(connection)
        },
        ...(settings.listen.socket_group === undefined ? {} : { group: settings.listen.socket_group }),
      }),
    )
    const admin = await opened(
      listenOnSocket(adminApi, {
        ...limits,
        setting: 'listen.admin',
        path: resolve(home, settings.listen.admin),
        mode: 0o600,
      }),
    )
    const redeem = createIdentityAssertions({
      snapshot,
      standing,
      membership,
      issuer,
      issuerKeys,
      checkSecret: createClientSecretCheck(random),
      keys: signingKeys,
      replays: store.replays,
      rates,
      audit,
      clock,
      random,
    })
    // Express shows stacks where it is not told that this is production.
    const publicApp = express()
      .disable('x-powered-by')
      .set('env', 'production')
      .post(paths.token, identityAssertionEndpoint({ redeem, correlationId, logger }))
      .get('/status/:list', statusEndpoint(statusLists, correlationId))
      .use(
        '/signals',
        createSignalReceiver({
          snapshot,
          keys: issuerKeys,
          revoker,
          replays: store.replays,
          resolveSecret,
          audit,
          fingerprint,
          namesSessions,
          clock,
          logger,
          correlationId,
        }),
      )
      .use(
        '/logout',
        createBackChannelLogout({
          snapshot,
          keys: issuerKeys,
          revoker,
          replays: store.replays,
          audit,
          fingerprint,
          clock,
          logger,
          correlationId,
        }),
      )
      .use('/clients', clientDocuments({ snapshot, jwks: () => signingKeys.jwks('client') }))
      .use(connect.app)
    const pages = await opened(
      listenOnPort(withCheckedHead(publicApp, correlationId), {
        ...limits,
        setting: 'listen.connect',
        ...settings.listen.connect,
      }),
    )
    const tcp =
      tcpAddress === null
        ? null
        : await opened(
            listenOnPort(localApi(createCallerGuard(tcpHosts(tcpAddress.port))), {
              ...limits,
              setting: 'listen.tcp',
              ...tcpAddress,
            }),
          )
    const gateway = {
      exchange,
      holders,
      lasting,
      audit,
      clock,
      random,
      logger,
      correlationId,
      home,
      touch: leases.touch,
      timeout: settings.network.timeout,
      headerTimeout: settings.limits.header_timeout,
      mode: settings.listen.socket_mode,
      group: settings.listen.socket_group,
      greet: (connection: Socket) => {
        peers.greet(connection)
      },
      peer: (connection: Socket) => peers.of(connection) ?? Promise.resolve(undefined),
      uidOf: (connection: Socket) => readPeerCredentials(connection)?.uid,
    }
    if (settings.listen.postgres !== null)
      await opened(openPostgresDoor({ ...gateway, folder: resolve(home, settings.listen.postgres) }))
    if (settings.listen.redis !== null) {
      const doors = (redisDoors = createRedisDoors({
        ...gateway,
        snapshot,
        folder: resolve(home, settings.listen.redis),
      }))
      listeners.push({ address: settings.listen.redis, close: doors.close })
      await doors.reconcile()
    }
    const metrics =
      metricsAddress === null
        ? null
        : await opened(
            listenOnPort(
              createMetricsEndpoint(() => observed.prometheus(), createCallerGuard(tcpHosts(metricsAddress.port))),
              { ...limits, setting: 'listen.metrics', ...metricsAddress },
            ),
          )

    tellWarnings(await socketFolderProblems(home, settings))

    await rotation.start()
    await leases.sweep()
    leases.start()
    const reloadLogged = async (): Promise<void> => {
      await reload().catch((error: unknown) => {
        logger.error({ err: error }, 'the configuration could not be read again')
      })
    }
    closers.push(watchConfiguration(snapshot, reloadLogged))
    const untilNext = (error: unknown): void => {
      logger.warn({ err: error }, 'housekeeping did not finish; it comes again in a minute')
    }
    // Providers that are slow to end grants hold up nothing of the daemon's own.
    const duties = [keepHouse, () => oauthGrant.drainUpstreamRevocations()].map((duty) =>
      oneAtATime(() => duty().catch(untilNext)),
    )
    const housekeeping = setInterval(() => {
      for (const attend of duties) attend()
    }, HOUSEKEEPING)
    housekeeping.unref()
    closers.push(() => {
      clearInterval(housekeeping)
    })

    async function keepHouse(): Promise<void> {
      const now = clock.now()
      await store.attempts.sweep(now)
      await store.replays.sweep(now)
      await store.identityTokens.sweep(now)
      await store.userNames.sweep(now - NAME_MEMORY_MS)
      await store.revocations.sweep(now)
      await store.secretHolders.sweep(now)
      standing.sweep(now)
      await alone(async () => {
        await signingKeys.refresh()
        await signingKeys.rotateWhenDue()
      })
      await leases.sweep()
      await watch?.reportNoticed()
    }

    logger.info({ socket: socket.address, connect: pagesUrl, version: options.version }, 'deputy is ready')
    return {
      addresses: {
        socket: socket.address,
        admin: admin.address,
        tcp: tcp?.address ?? null,
        proxy: proxy.addresses,
        connect: pages.address,
        metrics: metrics?.address ?? null,
      },
      reload,
      replaced: replaced.promise,
      async stop() {
        draining = true
        logger.info({}, 'deputy is stopping')
        if (settings.limits.unready > 0) await sleep(settings.limits.unready)
        // Whoever has one goes on, and begins it anew with the next daemon.
        execSessions.close()
        await Promise.all(listeners.splice(0).map((listener) => listener.close(settings.limits.drain)))
        await Promise.all(settling)
        await audit
          .append({ id: correlationId(), event: 'daemon.stop', outcome: 'done', detail: { pid: process.pid } })
          .catch((error: unknown) => {
            logger.error({ err: error }, 'the stop was not recorded')
          })
        await closeAll()
      },
    }
  }
}

/** Where a shared store is, as an operator knows it. */
const nameOf = ({ postgres: { host, port, database } }: Exclude<Settings['store'], 'embedded'>): string =>
  `postgres ${host}:${port}/${database}`

/** People write it on command lines, where a dash at the start would make it an option. */
const newId = (random: Random): string => Buffer.from(random.bytes(15)).toString('base64url').replace(/^-/, '_')
