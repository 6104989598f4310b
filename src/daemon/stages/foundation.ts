/** The first stage: the store with its keys, the audit log, what has been revoked, and this node among the others. */
import { resolve } from 'node:path'
import type { CachedCredential } from '#credentials/cache'
import { reportRestore } from '#daemon/backup'
import { nodeName, openAuditSinks, openKeysAndStore, type ReadTls, redisOptions } from '#daemon/foundation'
import type { DeputyError } from '#errors'
import { createSealedSessions } from '#flows/connect'
import { createLookAgain, keepOrders, restoreOrders } from '#flows/revocation'
import { createHandover, type Handover } from '#foundation/async'
import { DurableAuditLog, type Follower, type LostRecords } from '#foundation/audit'
import { createMemoryCache, createRates } from '#foundation/cache'
import { createIncarnations, type Membership, ClusterMembership, onlyNode } from '#foundation/cluster'
import { Secret } from '#foundation/crypto'
import { RenewedTls } from '#foundation/files'
import { createClientRegistry, createClientSessions } from '#identity/client'
import { createEgress, readHostRoutes } from '#foundation/outbound'
import { rememberGrants, type Revocation, type Store } from '#foundation/store'
import { RevocationIndex } from '#identity/validity'
import type { DaemonContext } from '../context.ts'
import { createAuditVerification, openHeads } from './audit-proof.ts'
import { createRetention, openSegments, recordRecovery } from './audit-segments.ts'
import { createOwnKeys } from '../own-keys.ts'

/** The last audit records that are kept in memory, to be written again where a shared store loses them (bytes). */
const RECENT_RECORDS_BYTES = 16_777_216

/** How long a record waits for a signature that covers it (ms). */
const CHECKPOINT_WITHIN_MS = 10_000

const openAudit = async (
  context: DaemonContext,
  parts: Pick<Keys, 'signingKeys' | 'prove' | 'installation' | 'segments'> & {
    store: Store
    recordsLost: Handover<[LostRecords]>
  },
) => {
  const heads = await openHeads(context, parts)
  const { settings, clock, logger, observed, newId, atEnd } = context
  const { store, signingKeys, prove, installation, recordsLost, segments } = parts
  const { telemetry } = observed
  const readTls = renewTls(context)
  const { required, followers } = await openAuditSinks(settings, { ...context, ...parts, telemetry, readTls })
  // After the log, so that they get its last records as well.
  for (const follower of followers) atEnd(() => follower.close())
  reportLag(context, followers)
  const audit = await DurableAuditLog.open({
    store: store.audit,
    sinks: required,
    appended(head) {
      for (const follower of followers) follower.appended(head)
    },
    clock,
    deadline: settings.audit.deadline,
    installation,
    checkpointEvery: settings.audit.checkpoint_every,
    checkpointWithin: CHECKPOINT_WITHIN_MS,
    sign: (bytes) => signingKeys.sign('checkpoint', bytes),
    signed: (checkpoint) => void heads.note(checkpoint),
    telemetry,
    logger,
    ...(segments === undefined ? {} : { openChain: segments.openChain }),
    // A store that one process holds does not go back under it.
    ...(store.cluster === undefined
      ? {}
      : { losses: { keep: RECENT_RECORDS_BYTES, prove, newId, noticed: recordsLost.tell } }),
  })
  atEnd(() => audit.close())
  await recordRecovery(audit, segments, newId)
  return {
    audit,
    auditFollowers: followers,
    heads,
    verifyAudit: createAuditVerification(parts, { audit, heads, prove }),
    auditRetention: createRetention(context, { segments, audit, followers, prove }),
  }
}

/** How far each sink is behind for which no caller waits. */
const reportLag = ({ observed }: DaemonContext, followers: readonly Follower[]): void => {
  const read = (of: 'records' | 'seconds') => () =>
    followers.map((follower) => {
      const { name, lag } = follower.status()
      return { value: lag[of], labels: { sink: name } }
    })
  observed.gauges('deputy.audit.sink.lag.records', 'Audit records that a sink does not have yet', read('records'))
  observed.gauges(
    'deputy.audit.sink.lag.seconds',
    'Age of the oldest audit record that a sink does not have yet',
    read('seconds'),
  )
}

/** The certificates of the connections to the store and the cache, read again until the daemon ends. */
const renewTls =
  ({ home, logger, atEnd }: DaemonContext): ReadTls =>
  async (files) => {
    const tls = await RenewedTls.open({ home, files, logger })
    atEnd(() => {
      tls.close()
    })
    return tls
  }

/** The keys, and the store as the daemon uses it. */
const openKeys = async (context: DaemonContext) => {
  const { settings, home, clock, random, logger, atEnd } = context
  const keysAndStore = await openKeysAndStore(settings, { ...context, readTls: renewTls(context) })
  atEnd(keysAndStore.close)
  const recentGrants = rememberGrants(keysAndStore.store.grants, () => performance.now())
  const prove = (text: string): string => keysAndStore.fingerprint(new Secret(text))
  const installation = prove('deputy installation')
  const opened = keysAndStore.store
  const segments = await openSegments(context, keysAndStore, installation)
  const store: Store =
    segments === undefined ? { ...opened, grants: recentGrants } : { ...opened, audit: segments.store }
  return {
    ...keysAndStore,
    prove,
    /** Names the installation in its audit log: only the holder of its keys can make it. */
    installation,
    segments,
    store,
    recentGrants,
    ownKeys: createOwnKeys({ keysAndStore, settings, home, clock, random, logger }),
  }
}
type Keys = Awaited<ReturnType<typeof openKeys>>

const readStanding = async (store: Store): Promise<RevocationIndex> =>
  new RevocationIndex(
    await store.revocations.list(),
    await store.disabledUsers.list(),
    await store.frozenTenants.list(),
  )

/** This node, and what it does when it learns of a revocation or when the store has lost what it had confirmed. */
const joinCluster = async (context: DaemonContext, keys: Keys, parts: JoinParts) => {
  const { settings, clock, logger, outages, newId, atEnd } = context
  const { store, fingerprint, envelope } = keys
  const { revocationIndex, audit, cache, isVoid, recordsLost, revocationsReturned } = parts
  const node = nodeName(settings, context)
  const incarnations = createIncarnations(node, fingerprint)
  const incarnation = incarnations.idOf(clock.now(), newId())
  const lookAgain = createLookAgain({
    store,
    grants: keys.recentGrants,
    revocationIndex,
    audit,
    fingerprint,
    emptyCaches: () => {
      cache.purge(() => true)
    },
    endAgain: revocationsReturned.tell,
    node,
    now: () => clock.now(),
    newId,
    logger,
  })
  recordsLost.to((lost) => {
    lookAgain.recordsLost(lost)
  })
  const replaced = Promise.withResolvers<DeputyError>()
  const membership: Membership =
    store.cluster === undefined
      ? onlyNode(node, clock)
      : await ClusterMembership.start({
          store: store.cluster,
          node,
          incarnation,
          startOf: incarnations.startOf,
          acknowledgements: incarnations,
          ...settings.cluster,
          clock,
          monotonic: () => performance.now(),
          logger,
          newToken: newId,
          renewed: () => outages?.answered(),
          lookAgain: lookAgain.lookAgain,
          replaced: replaced.resolve,
          async apply(changes) {
            revocationIndex.replace(await keepOrders({ store, revocationIndex, fingerprint, logger }, changes))
            for (const revocation of changes.revocations) {
              revocationIndex.add(revocation)
              const { scope } = revocation
              if (scope.kind === 'tenant') envelope.forget(scope.tenant)
            }
            if (changes.revocations.length > 0) cache.purge(isVoid)
          },
        })
  atEnd(() => membership.close())
  return { node, incarnation, membership, replaced: replaced.promise, reportLosses: lookAgain.reportNoticed }
}
type Cache = ReturnType<typeof createMemoryCache<CachedCredential>>
interface JoinParts {
  readonly revocationIndex: RevocationIndex
  readonly audit: DurableAuditLog
  readonly cache: Cache
  readonly isVoid: (entry: CachedCredential) => boolean
  readonly recordsLost: Handover<[LostRecords]>
  readonly revocationsReturned: Handover<[readonly Revocation[]]>
}

/** The cache that nodes share, and the rates that need it. */
const openShared = async (context: DaemonContext) => {
  const { settings, snapshot, logger, atEnd } = context
  const redis = await redisOptions(settings, context, renewTls(context))
  const bytes =
    redis === undefined
      ? undefined
      : (await import('#foundation/redis')).createSharedBytes(redis, { logger, monotonic: () => performance.now() })
  atEnd(() => bytes?.close())
  const rates = createRates({
    rates: () => snapshot().settings.rates,
    redis: bytes === undefined ? undefined : { client: bytes.client, logger },
    monotonic: () => performance.now(),
  })
  return { bytes, rates }
}

const openEgress = async ({ settings, home, observed, atEnd }: DaemonContext) => {
  const common = {
    timeout: settings.network.timeout,
    routes: await readHostRoutes(home, settings.network.hosts),
    traceparent: () => observed.traceparent(),
  }
  const egress = createEgress({
    ...common,
    allowLoopback: settings.network.allow_loopback,
    allowPrivate: settings.network.allow_private,
  })
  /** For addresses that anyone can name: what the settings allow inside is not for them. */
  const publicEgress = createEgress({ ...common, allowLoopback: false, allowPrivate: [] })
  atEnd(() => egress.close())
  atEnd(() => publicEgress.close())
  return { egress, publicEgress }
}

/** @throws DeputyError `start_failed` and others of the taxonomy: the store, a key or a sink cannot be opened */
export const openFoundation = async (context: DaemonContext) => {
  const { settings, clock, logger, newId } = context
  const keys = await openKeys(context)
  const { store, envelope, fingerprint } = keys
  const recordsLost = createHandover<[LostRecords]>()
  const revocationsReturned = createHandover<[readonly Revocation[]]>()
  const { audit, auditFollowers, auditRetention, heads, verifyAudit } = await openAudit(context, {
    ...keys,
    recordsLost,
  })
  await keys.alone(() => restoreOrders({ store, audit, fingerprint, now: clock.now(), correlationId: newId(), logger }))
  await reportRestore(resolve(context.home, settings.state), { store, audit, newId })
  const revocationIndex = await readStanding(store)
  const cache = createMemoryCache<CachedCredential>({ entries: settings.cache.entries, clock })
  const isVoid = (entry: CachedCredential): boolean =>
    revocationIndex.findRevocation({ ...entry, grant: entry.credential.grant }) !== undefined
  const joined = await joinCluster(context, keys, {
    revocationIndex,
    audit,
    cache,
    isVoid,
    recordsLost,
    revocationsReturned,
  })
  return {
    ...keys,
    ...joined,
    audit,
    auditHeads: heads,
    verifyAudit,
    auditRetention,
    /** Sinks of the audit log for which no caller waits. */
    auditFollowers,
    revocationIndex,
    cache,
    isVoid,
    /** Revocations that the store had lost and this node has written again: what they had ended is ended again. */
    revocationsReturned,
    clientSessions: createClientSessions({
      store: store.clientSessions,
      envelope,
      clock,
      random: context.random,
      logger,
    }),
    clientRegistry: createClientRegistry({
      store: store.clients,
      envelope,
      snapshot: context.snapshot,
      audit,
      clock,
      random: context.random,
      newId,
      logger,
    }),
    sessions: createSealedSessions({ store: store.sessions, envelope, node: joined.node, logger }),
    ...(await openShared(context)),
    ...(await openEgress(context)),
  }
}
export type Foundation = Awaited<ReturnType<typeof openFoundation>>
