/** How the daemon is: for any program of this machine (`readiness`), and for the admin (`status`). */
import { checkPrivateFiles, differingNodes, type Problem } from '#config'
import { within } from '#foundation/async'
import type { ClusterStore } from '#foundation/store'
import type { DaemonContext } from './context.ts'
import type { Made } from './stages/flows.ts'
import { historyState, orUnread } from './store-state.ts'

/** How long readiness waits for the store (ms). */
const PING_PATIENCE_MS = 500

/** `ok`, or how many problems there are and the first of them. */
const shortOf = ([first, ...others]: readonly Problem[]): string =>
  first === undefined
    ? 'ok'
    : `${first.file}:${first.line}: ${first.message}${others.length === 0 ? '' : ` (and ${others.length} more; run deputy check)`}`

const problemsOf = (sinks: readonly { readonly name: string; readonly problem: string | null }[]): string =>
  sinks.length === 0 ? 'ok' : sinks.map(({ name, problem }) => `${name}: ${problem}`).join('; ')

/** @param isDraining whether the daemon is about to stop */
export const createReadiness = (made: Made, isDraining: () => boolean) => {
  const { store, membership, audit, auditHeads, auditFollowers, bytes, rates, backends, keyService } = made
  /** A node that has no lease knows already that the store is away; one that has waits a moment for the answer to a ping. */
  const pingProblem = (): Promise<string | undefined> => {
    const late = (): Error => new Error(`The store did not answer: no answer within ${PING_PATIENCE_MS} ms.`)
    return within(PING_PATIENCE_MS, store.ping(), late).then(
      () => undefined,
      (error: unknown) => (error as Error).message,
    )
  }
  return async () => {
    // Each renewal is a write that the shared store confirms: a ping would say ok of one that is read-only or whose commits hang.
    const storeProblem = membership.status().store ?? (await pingProblem())
    const service = await keyService()
    const sinks = audit.status().filter(({ ok }) => !ok)
    const followers = auditFollowers.map((each) => each.status())
    const node = membership.status()
    return {
      ready: !isDraining() && storeProblem === undefined && sinks.length === 0 && node.held,
      checks: {
        ...(bytes === undefined ? {} : { redis: bytes.problem() ?? 'ok', rates: rates.problem() ?? 'ok' }),
        daemon: isDraining() ? 'draining' : 'ok',
        node: node.problem ?? 'ok',
        store: storeProblem ?? 'ok',
        // A head that is missed is told, and stops nothing: what has been removed does not come back by refusing users.
        audit: sinks.length > 0 ? problemsOf(sinks) : (auditHeads.problem ?? 'ok'),
        // Callers do not wait for these, so that the daemon is ready without them.
        ...(followers.length === 0 ? {} : { audit_sinks: problemsOf(followers.filter(({ ok }) => !ok)) }),
      },
      backends: { ...backends.status(), ...(service === undefined ? {} : { 'key service': service }) },
    }
  }
}
export type Readiness = ReturnType<typeof createReadiness>

/** Tells the other nodes by which configuration this one decides. */
export const createNodeDescription =
  ({ configuration, logger }: DaemonContext, { store, incarnation }: Made) =>
  async (): Promise<void> => {
    await store.cluster?.describe(incarnation, JSON.stringify(configuration.fingerprints)).catch((error: unknown) => {
      logger.debug({ err: error }, 'the fingerprint of the configuration of this node was not written to the store')
    })
  }

const upstreamCounts = async ({ store }: Made) => {
  const { queued = [], irrevocable = [] } = Object.groupBy(await store.upstreamRevocations.list(), ({ state }) => state)
  return { queued: queued.length, irrevocable: irrevocable.length }
}

/** What `deputy status` shows. It names files, so that it is for the admin alone. */
export const createStatus = (
  { version, home, settings, configuration, snapshot, clock }: DaemonContext,
  made: Made,
  parts: {
    readonly readiness: Readiness
    readonly describeNode: () => Promise<void>
    readonly proxyAddresses: readonly string[]
  },
) => {
  const { store, membership, node, call, audit, auditFollowers, cache } = made
  const startedAt = new Date(clock.now()).toISOString()
  /** Which other nodes decide by other files than this one, and since when. */
  const sameConfiguration = async (cluster: ClusterStore): Promise<string> => {
    // Said again with each look: a node whose row was lost has a new one.
    await parts.describeNode()
    const others = (await cluster.nodes()).filter(({ about, leaseLeft }) => about !== node && leaseLeft > 0)
    return differingNodes(configuration.fingerprints, others)
  }
  const checks = async () => {
    const { ready, checks: plain, backends: services } = await parts.readiness()
    const files = await checkPrivateFiles(configuration.privateFiles)
    return {
      ready,
      checks: {
        ...services,
        ...plain,
        history: await historyState(store.losses),
        configuration: shortOf(configuration.refused),
        ...(store.cluster === undefined
          ? {}
          : { same_configuration: await orUnread(sameConfiguration(store.cluster)) }),
        secret_files: shortOf([...files.problems, ...files.warnings]),
      },
    }
  }
  return async () => ({
    version,
    pid: process.pid,
    home,
    environment: settings.environment,
    generation: snapshot().generation,
    ...(await checks()),
    node: membership.status(),
    // What the store knows is left out while it is away: the rest is what an admin needs then.
    nodes: (await store.cluster?.nodes().catch(() => [])) ?? [],
    durability: (await store.cluster?.durability().catch(() => null)) ?? null,
    upstream_revocations: await upstreamCounts(made).catch(() => null),
    providers: call.troubles(),
    proxy: parts.proxyAddresses,
    audit: audit.status(),
    audit_sinks: auditFollowers.map((follower) => follower.status()),
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
  })
}
