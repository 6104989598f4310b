/** The second stage: backends of secrets, leases, the programs that `deputy exec` has started, and the rotation of secrets. */
import { keeps } from '#config'
import { createGitHubTokens } from '#credentials/connector'
import { createProviderCalls } from '#credentials/provider'
import { Leases, createSecretBackends, createSecretResolver, type SecretBackends } from '#credentials/secret'
import { holderOf, isLeaseWanted } from '#flows/exchange'
import { createCheckouts, createRotation } from '#flows/rotation'
import { createHandover } from '#foundation/async'
import type { RotatedSecret } from '#foundation/store'
import { createExecSessions, type ExecSession } from '#identity/workload'
import type { DaemonContext } from '../context.ts'
import type { Foundation } from './foundation.ts'

/** Leases, and the backends that give them. They need each other: a backend reports the end of a token, a lease ends at its backend. */
const openBackends = async (context: DaemonContext, foundation: Foundation) => {
  const { home, version, environment, settings, snapshot, clock, random, logger, correlation, newId, atEnd } = context
  const { store, envelope, audit, revocationIndex, cache, egress, secrets, own, bytes } = foundation
  const call = createProviderCalls({ telemetry: context.observed.telemetry, clock, shared: bytes })
  const tokensAt = createGitHubTokens({ egress, call })
  let backends: SecretBackends | undefined
  const leases = new Leases({
    store: store.leases,
    envelope,
    backendOf: (id) => backends?.leased(id) ?? tokensAt(id),
    audit,
    clock,
    random,
    logger,
    isVoid: ({ id, tenant, user, server, downstream, createdAt }) =>
      revocationIndex.findRevocation({
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
  backends = await createSecretBackends(settings.secrets.backends, {
    embedded: secrets,
    home,
    environment,
    clock,
    monotonic: () => performance.now(),
    logger,
    version,
    correlationId: () => correlation.current(),
    own,
    tokenStorage: {
      store: store.backendTokens,
      envelope,
      hasLeases: (accessor) => store.leases.hasParent(accessor),
      ended: (accessor) => leases.lose(accessor),
    },
    violated: ({ code, facts }) =>
      audit.append({
        id: newId(),
        event: 'secret.unwrap',
        outcome: 'failed',
        detail: { error: code, backend: String(facts['backend']), problem: String(facts['problem']) },
      }),
  })
  const opened = backends
  atEnd(() => opened.close())
  atEnd(() => leases.close())
  return { call, tokensAt, leases, backends: opened }
}
type Backends = Awaited<ReturnType<typeof openBackends>>

/** Who has which version of a secret. */
const openCheckouts = ({ clock }: DaemonContext, { store, node }: Foundation, { backends }: Backends) =>
  createCheckouts({
    store: store.secretHolders,
    node,
    clock,
    outdated: (secret) => {
      backends.forget(secret)
    },
    currentOf: async ({ tenant, backend, secret }) =>
      (await backends.get(backend)?.read(tenant, secret))?.version ?? '',
  })
type Checkouts = ReturnType<typeof openCheckouts>

const openExecSessions = (context: DaemonContext, { audit }: Foundation, checkouts: Checkouts) => {
  const { clock, random, background, atEnd } = context
  /** Leases of a program that has ended, to be ended as well. */
  const leasesLeft = createHandover<[ExecSession, readonly string[]]>()
  const execSessions = createExecSessions({
    clock,
    random,
    over(session, error) {
      background.start(
        'the end of an exec session was not written down',
        Promise.all([
          checkouts.forget({ server: session.server, user: session.user ?? null, process: holderOf(session) }),
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
              ...(error === undefined ? {} : { error: { code: error.code, message: error.message, next: error.next } }),
            },
          }),
        ]),
      )
    },
    release: leasesLeft.tell,
  })
  atEnd(async () => {
    execSessions.close()
    await background.ended()
  })
  return { execSessions, leasesLeft }
}

/** @throws DeputyError `config_invalid` for a backend that cannot be opened, those of the store */
export const openSecrets = async (context: DaemonContext, foundation: Foundation) => {
  const { home, environment, snapshot, clock, random, logger, atFaultPoint, atEnd } = context
  const { store, envelope, ownKeys, egress, audit, node, incarnation } = foundation
  const opened = await openBackends(context, foundation)
  const { backends } = opened
  const checkouts = openCheckouts(context, foundation, opened)
  const { execSessions, leasesLeft } = openExecSessions(context, foundation, checkouts)
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
    checkouts,
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
    resolveSecret: createSecretResolver({ read: (secret) => backends.read(secret), home, environment }),
    ...(atFaultPoint === undefined ? {} : { at: atFaultPoint }),
  })
  atEnd(() => rotation.close())
  return {
    ...opened,
    checkouts,
    execSessions,
    leasesLeft,
    secretChanged,
    rotation,
    resolveSecret: createSecretResolver({ read: rotation.read, home, environment }),
  }
}
export type Secrets = Awaited<ReturnType<typeof openSecrets>>
