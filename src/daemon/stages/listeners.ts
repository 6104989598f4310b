/** The last stage: what listens. Each listener gets the lines that it calls. */
import type { Socket } from 'node:net'
import { resolve } from 'node:path'
import express, { type Request } from 'express'
import { exportChains } from '#foundation/audit'
import { createKeyedDigest } from '#foundation/crypto'
import { createClientSecretCheck, readPeerCredentials } from '#identity/workload'
import { createAdminApi } from '#listeners/admin-api'
import type { AuthorizationServer } from '#listeners/authorization-server'
import { createRedisListeners, openPostgresListener } from '#listeners/database-proxy'
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
import { createLocalApi, type ExecProxy } from '#listeners/local-api'
import {
  clientDocuments,
  createConnectPages,
  createMetricsEndpoint,
  authorizationEndpoints,
  createAnswerFailure,
  agentMetadata,
  agentTokenEndpoint,
  identityAssertionEndpoint,
  identityAssertionMetadata,
  publicTokenEndpoint,
  statusEndpoint,
} from '#listeners/public'
import { createBackChannelLogout, createSignalReceiver } from '#listeners/security-events'
import type { DaemonContext } from '../context.ts'
import { createNodeDescription, createReadiness, createStatus, type Readiness } from '../readiness.ts'
import { createReload } from '../reload.ts'
import type { Flows, Made } from './flows.ts'

type Parts = Made & Flows

/** What every listener of the daemon has in common, and those that are open. */
const createListeners = ({ settings: { limits }, atEnd }: DaemonContext) => {
  const open: Listener[] = []
  const closeAll = async (): Promise<void> => {
    await Promise.all(open.splice(0).map((listener) => listener.close(limits.drain)))
  }
  atEnd(closeAll)
  return {
    limits: { headerTimeout: limits.header_timeout, requestTimeout: limits.request_timeout },
    /** Takes over a listener, to close it. */
    async opened(listener: Promise<Listener>): Promise<Listener> {
      open.push(await listener)
      return listener
    },
    closeAll,
  }
}
type Listeners = ReturnType<typeof createListeners>

const createTrace =
  ({ observed, correlation }: DaemonContext) =>
  <T>(origin: { traceparent: string | undefined; id: string }, name: string, work: () => Promise<T>): Promise<T> =>
    observed.within(origin.traceparent, () =>
      correlation.within(origin.id, () => observed.telemetry.span(name, {}, work)),
    )

const openLocalApi = async (
  context: DaemonContext,
  parts: Parts,
  { readiness, proxy, listeners }: { readiness: Readiness; proxy: ExecProxy | undefined; listeners: Listeners },
) => {
  const { settings, home, snapshot, clock, newId, logger } = context
  const {
    exchange,
    tokens,
    serverView,
    toolCalls,
    signingKeys,
    peers,
    links,
    deviceLogins,
    sessions,
    store,
    beginExec,
    issuer,
  } = parts
  const { limits, opened } = listeners
  const { listen } = settings
  const localApi = (hosts: ReadonlySet<string>) =>
    createLocalApi({
      snapshot,
      exchange,
      tokens,
      serverView,
      toolCalls,
      jwks: () => signingKeys.jwks('token', 'cloud'),
      peer: (request) => peers.of(request.socket) ?? Promise.resolve(undefined),
      guard: createCallerGuard(hosts),
      readiness,
      login: {
        start: links.startLogin,
        startDevice: deviceLogins.start,
        device: deviceLogins.state,
        find: (uid) => sessions.find(uid, clock.now()),
        end: async (uid) => {
          deviceLogins.end(uid)
          await store.sessions.remove({ uid })
        },
      },
      exec: { begin: beginExec, proxy: () => proxy },
      trace: createTrace(context),
      correlationId: newId,
      telemetry: context.observed.telemetry,
      logger,
    })
  const socket = await opened(
    listenOnSocket(localApi(socketHosts(issuer())), {
      ...limits,
      setting: 'listen.socket',
      path: resolve(home, listen.socket),
      mode: listen.socket_mode,
      onConnection: (connection) => {
        peers.capturePeer(connection)
      },
      ...(listen.socket_group === undefined ? {} : { group: listen.socket_group }),
    }),
  )
  const { tcp } = listen
  const port =
    tcp === null
      ? null
      : await opened(listenOnPort(localApi(tcpHosts(tcp.port)), { ...limits, setting: 'listen.tcp', ...tcp }))
  return { socket: socket.address, tcp: port?.address ?? null }
}

/** Keys that an admin rotates by hand. */
const createKeyRotation =
  ({ ownKeys }: Parts) =>
  async (keys: 'signing' | 'key-encryption') => {
    if (keys === 'signing') {
      const { id } = await ownKeys.rotate('signing-keys')
      return { kid: id, kids: ownKeys.signingKids() }
    }
    const { id, rewrapped } = await (ownKeys.canRotate('key-encryption-key')
      ? ownKeys.rotate('key-encryption-key')
      : ownKeys.rewrap())
    return { kek: id, rewrapped }
  }

const openAdminApi = (
  context: DaemonContext,
  parts: Parts,
  admin: {
    readonly listeners: Listeners
    readonly reload: ReturnType<typeof createReload>
    readonly status: ReturnType<typeof createStatus>
  },
): Promise<Listener> => {
  const { settings, home, snapshot, configuration, clock, newId, logger } = context
  const by = (request: Request): string => {
    const peer = readPeerCredentials(request.socket)
    return peer === undefined ? 'the admin socket' : `uid ${peer.uid}`
  }
  const adminApi = createAdminApi({
    ...parts,
    snapshot,
    policy: configuration.policy,
    by,
    correlationId: newId,
    logger,
    reload: admin.reload,
    now: () => clock.now(),
    exportAudit: (node) =>
      exportChains(
        parts.store.audit,
        { installation: parts.installation, at: clock.now(), keys: parts.signingKeys.jwks('checkpoint').keys },
        node === undefined ? undefined : [node],
      ),
    status: admin.status,
    rotateKeys: createKeyRotation(parts),
  })
  return admin.listeners.opened(
    listenOnSocket(adminApi, {
      ...admin.listeners.limits,
      setting: 'listen.admin',
      path: resolve(home, settings.listen.admin),
      mode: 0o600,
    }),
  )
}

/**
 * The authorization server for MCP clients, which is loaded when the files first name a server at which users sign in here.
 * @returns undefined while they name none
 */
const createSignInAtDeputy = (
  context: DaemonContext,
  parts: Parts,
  metadata: () => Readonly<Record<string, unknown>>,
): (() => Promise<AuthorizationServer> | undefined) => {
  const { snapshot, newId } = context
  const { store, issuer, revoker } = parts
  const end = async (scope: Parameters<Parts['revoker']['revoke']>[0]['scope'], reason: string): Promise<void> => {
    await revoker.revoke({ scope, by: 'the authorization server', reason, correlationId: newId() })
  }
  let loaded: Promise<AuthorizationServer> | undefined
  const load = async (): Promise<AuthorizationServer> => {
    const { createAuthorizationServer } = await import('#listeners/authorization-server')
    return createAuthorizationServer({
      ...context,
      ...parts,
      issuer: issuer(),
      policy: context.configuration.policy,
      records: store.authorizationRecords,
      replays: store.replays,
      correlationId: newId,
      checkSecret: createClientSecretCheck(context.random),
      metadata,
      endSession: (session, reason) => end({ kind: 'session', session }, reason),
      endClient: (client, reason) => end({ kind: 'client', client }, reason),
    })
  }
  return () => {
    const isWanted = [...snapshot().servers.values()].some(({ sign_in: signIn }) => signIn === 'deputy')
    return isWanted ? (loaded ??= load()) : undefined
  }
}

/** What browsers, identity providers and services of other machines reach. */
const openPublic = (context: DaemonContext, parts: Parts, { limits, opened }: Listeners): Promise<Listener> => {
  const { settings, snapshot, clock, random, logger, newId } = context
  const { statusLists, connect, signingKeys, issuer, pagesUrl, redeem, store, cookieKey, audit } = parts
  const metadata = () => {
    const [assertions, agents] = [identityAssertionMetadata(snapshot, pagesUrl), agentMetadata(snapshot, pagesUrl)]
    const grants = [...(assertions.grant_types_supported ?? []), ...(agents.grant_types_supported ?? [])]
    return {
      ...publicMetadataDocument(issuer()),
      ...assertions,
      ...agents,
      ...(grants.length === 0 ? {} : { grant_types_supported: [...new Set(grants)] }),
    }
  }
  const authorizationServer = createSignInAtDeputy(context, parts, () => discoveryDocument(metadata()))
  const assertions = identityAssertionEndpoint({ redeem, correlationId: newId, logger })
  const agents = agentTokenEndpoint({ issue: parts.issueAgentToken, correlationId: newId, logger })
  const events = { ...parts, snapshot, keys: parts.issuerKeys, replays: store.replays, clock, logger }
  // Express shows stacks where it is not told that this is production.
  const fail = createAnswerFailure({ correlationId: newId, logger })
  const app = express()
    .disable('x-powered-by')
    .set('env', 'production')
    .post(paths.token, publicTokenEndpoint({ assertions, agents, snapshot, authorizationServer, fail }))
    .use(authorizationEndpoints(authorizationServer, fail))
    .get('/status/:list', statusEndpoint(statusLists, newId))
    .use('/signals', createSignalReceiver({ ...events, correlationId: newId }))
    .use('/logout', createBackChannelLogout({ ...events, correlationId: newId }))
    .use('/clients', clientDocuments({ snapshot, jwks: () => signingKeys.jwks('client') }))
    .use(
      createConnectPages({
        flow: connect,
        authorizationServer,
        baseUrl: () => pagesUrl,
        cookieKey,
        random,
        newId,
        jwks: () => signingKeys.jwks('token', 'cloud'),
        metadata,
        discovery: () => discoveryDocument(metadata()),
        audit,
        logger,
      }),
    )
  return opened(
    listenOnPort(withCheckedHead(app, newId), { ...limits, setting: 'listen.connect', ...settings.listen.connect }),
  )
}

/** Sockets of databases. @returns what opens and closes those of Redis as the files say */
const openDatabases = async (
  context: DaemonContext,
  parts: Parts,
  { opened }: Listeners,
): Promise<{ reconcile: () => Promise<void> }> => {
  const { settings, snapshot, home, clock, random, logger, newId } = context
  const { peers, leases } = parts
  const { postgres, redis, socket_mode: mode, socket_group: group } = settings.listen
  const proxy = {
    ...parts,
    clock,
    random,
    logger,
    correlationId: newId,
    home,
    touch: (lease: string) => leases.touch(lease),
    timeout: settings.network.timeout,
    headerTimeout: settings.limits.header_timeout,
    mode,
    group,
    capturePeer: (connection: Socket) => {
      peers.capturePeer(connection)
    },
    peer: (connection: Socket) => peers.of(connection) ?? Promise.resolve(undefined),
    uidOf: (connection: Socket) => readPeerCredentials(connection)?.uid,
  }
  if (postgres !== null) await opened(openPostgresListener({ ...proxy, folder: resolve(home, postgres) }))
  if (redis === null) return { reconcile: () => Promise.resolve() }
  const listeners = createRedisListeners({ ...proxy, snapshot, folder: resolve(home, redis) })
  await opened(Promise.resolve({ address: redis, close: listeners.close }))
  return listeners
}

const openMetrics = async (
  { settings: { listen }, observed }: DaemonContext,
  { limits, opened }: Listeners,
): Promise<string | null> => {
  const { metrics } = listen
  if (metrics === null) return null
  const endpoint = createMetricsEndpoint(() => observed.prometheus(), createCallerGuard(tcpHosts(metrics.port)))
  return (await opened(listenOnPort(endpoint, { ...limits, setting: 'listen.metrics', ...metrics }))).address
}

/** An MCP client that has shut its sending side has cancelled its call: it is over soon after (ms). */
const GONE_MS = 500

/** The MCP servers that Deputy hosts; the code for them is loaded where the settings want it. */
const openHostedServers = async (
  context: DaemonContext,
  parts: Parts,
  { limits, opened }: Listeners,
): Promise<{ address: string | null; toolsChanged: () => void }> => {
  const { settings, snapshot, clock, newId, logger, atEnd } = context
  const { mcp } = settings.listen
  if (mcp === null) return { address: null, toolsChanged: () => undefined }
  const { createHostedServers } = await import('#listeners/mcp')
  const { serverView, toolCalls, cookieKey } = parts
  const digest = createKeyedDigest(cookieKey)
  const hosted = createHostedServers({
    snapshot,
    serverView,
    toolCalls,
    correlationId: newId,
    logger,
    now: () => clock.now(),
    // The same at every node of a cluster: a client answers a question at any of them.
    stateKey: (server) => Buffer.from(digest('request-state', server), 'base64url'),
  })
  atEnd(() => hosted.close())
  const { address } = await opened(
    listenOnPort(hosted.onRequest, {
      ...limits,
      halfClosedTimeout: GONE_MS,
      setting: 'listen.mcp',
      ...mcp,
    }),
  )
  return { address, toolsChanged: hosted.toolsChanged }
}

/**
 * Opens every listener that the settings name.
 * @param isDraining whether the daemon is about to stop
 * @throws DeputyError `start_failed` for an address that is taken
 */
export const openListeners = async (context: DaemonContext, parts: Parts, isDraining: () => boolean) => {
  const { newId } = context
  const { issuer, execSessions } = parts
  const listeners = createListeners(context)
  const describeNode = createNodeDescription(context, parts)
  await describeNode()
  const proxy = await openProxy({
    ...context,
    ...parts,
    startedFor: (evidence) => execSessions.startedFor(evidence),
    opened: listeners.opened,
    correlationId: newId,
    socketHosts: socketHosts(issuer()),
    trace: createTrace(context),
  })
  const readiness = createReadiness(parts, isDraining)
  const databases = await openDatabases(context, parts, listeners)
  const hosted = await openHostedServers(context, parts, listeners)
  const reload = createReload(context, parts, {
    describeNode,
    databaseSockets: databases.reconcile,
    toolsChanged: hosted.toolsChanged,
  })
  const status = createStatus(context, parts, { readiness, describeNode, proxyAddresses: proxy.addresses })
  const admin = await openAdminApi(context, parts, { listeners, reload, status })
  const pages = await openPublic(context, parts, listeners)
  await databases.reconcile()
  const metrics = await openMetrics(context, listeners)
  // The last one: a program that gets an answer finds the rest open as well.
  const local = await openLocalApi(context, parts, { readiness, proxy: proxy.forPrograms, listeners })
  return {
    reload,
    closeAll: listeners.closeAll,
    addresses: {
      socket: local.socket,
      admin: admin.address,
      tcp: local.tcp,
      proxy: proxy.addresses,
      connect: pages.address,
      mcp: hosted.address,
      metrics,
    },
  }
}
