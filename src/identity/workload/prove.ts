import type { Clock } from '#clock'
import type { Server, Snapshot } from '#config'
import { refuse } from '#errors'
import type { Secret } from '#foundation/crypto'
import type { ReplayStore } from '#foundation/store'
import type { AttestedWorkload } from './attestor.ts'
import type { CallerEvidence } from './caller-evidence.ts'
import { clientOf, verifyClientAssertion } from './client-assertion.ts'
import type { CheckClientSecret } from './client-secret.ts'
import { type ExecSession, type ExecSessions, mayExec } from './exec-sessions.ts'
import { byHosting } from './hosted.ts'
import { isInUse, registryOf } from './registry.ts'
import { accountsOf, type ClusterKeys, serviceAccountOf, verifyServiceAccount } from './service-account.ts'

export interface ProofDependencies {
  readonly replays: ReplayStore
  readonly audiences: () => readonly string[]
  /** Further audiences of client assertions: the port of the local API, for a client that has discovered it there. */
  readonly localAudiences?: readonly string[]
  readonly clusterKeys: ClusterKeys
  readonly exec: Pick<ExecSessions, 'isToken' | 'byToken' | 'of'>
  readonly clock: Clock
  readonly checkSecret: CheckClientSecret
}

/** The server that a caller proved to be, and the exec session that proved it. */
type Proof = Pick<AttestedWorkload, 'server' | 'method' | 'session'>

/** The one server that fits. Of several, the one in use: a retired server and its successor may run as the same user. */
const onlyOne = (fitting: readonly Server[]): Server => {
  const inUse = fitting.length > 1 ? fitting.filter(isInUse) : fitting
  const [server, another] = inUse.length > 0 ? inUse : fitting
  if (server === undefined) throw refuse('workload_unknown')
  if (another !== undefined) throw refuse('workload_ambiguous')
  return server
}

/** A client assertion names its server, and one of the server's keys signed it (RFC 7523). */
const byAssertion = async (
  deps: ProofDependencies,
  assertion: string,
  { clientId }: CallerEvidence,
  snapshot: Snapshot,
): Promise<Server> => {
  const claimed = clientOf(assertion)
  const server = claimed === undefined ? undefined : registryOf(snapshot).byId(claimed)
  if (server === undefined || (clientId !== undefined && clientId !== claimed)) throw refuse('workload_unknown')
  await verifyClientAssertion(assertion, server, {
    audiences: [...deps.audiences(), ...(deps.localAudiences ?? [])],
    replays: deps.replays,
    clock: deps.clock,
  })
  return server
}

/** A Kubernetes service account identifies its server; an account of several servers needs the client id as well. */
const byServiceAccount = async (
  deps: ProofDependencies,
  { assertion, ...account }: { readonly assertion: string; readonly issuer: string; readonly subject: string },
  { clientId }: CallerEvidence,
  snapshot: Snapshot,
): Promise<Server> => {
  const named = [...registryOf(snapshot).all()].filter(
    (server) => accountsOf(server, account).length > 0 && (clientId === undefined || clientId === server.server),
  )
  const server = onlyOne(named)
  for (const [at, way] of accountsOf(server, account).entries()) {
    try {
      await verifyServiceAccount(assertion, server, way, {
        audiences: deps.audiences(),
        keysOf: deps.clusterKeys,
        clock: deps.clock,
      })
      return server
    } catch (error) {
      if (at === accountsOf(server, account).length - 1) throw error
    }
  }
  throw refuse('workload_unknown')
}

/** A client id and its secret. */
const bySecret = async (
  checkSecret: CheckClientSecret,
  clientSecret: Secret,
  { clientId }: CallerEvidence,
  snapshot: Snapshot,
): Promise<Server> => {
  const server = clientId === undefined ? undefined : registryOf(snapshot).byId(clientId)
  const hashes = server?.attest.flatMap((way) => ('client_secret' in way ? [way.client_secret.scrypt] : [])) ?? []
  if (clientId === undefined) throw refuse('workload_unknown')
  for (const hash of hashes) if (await checkSecret(clientSecret, hash, clientId)) return server!
  // A caller learns neither by the words nor by the time whether there is a server of this id.
  if (hashes.length === 0) await checkSecret(clientSecret, undefined, clientId)
  throw refuse('workload_unverified', { server: clientId.slice(0, 100), problem: 'the client secret is wrong' })
}

/** The token of an exec session: `deputy exec` sends it for its child, and the child sends it where it has no Unix socket. */
const bySession = (
  exec: ProofDependencies['exec'],
  clientSecret: Secret,
  { clientId, peer }: CallerEvidence,
  snapshot: Snapshot,
): { server: Server; session: ExecSession } => {
  const session = exec.byToken(clientSecret, clientId, peer)
  const server = registryOf(snapshot).byId(session.server)
  if (server === undefined || !mayExec(server, session.uid))
    throw refuse('exec_not_registered', { server: session.server, uid: session.uid })
  return { server, session }
}

/** A process that `deputy exec` started, or that descends from such a process. */
const byStart = (
  exec: ProofDependencies['exec'],
  { peer, clientId }: CallerEvidence,
  snapshot: Snapshot,
): { server: Server; session: ExecSession } | undefined => {
  if (peer === undefined) return undefined
  for (const session of exec.of(peer)) {
    const server =
      clientId === undefined || clientId === session.server ? registryOf(snapshot).byId(session.server) : undefined
    if (server !== undefined && mayExec(server, session.uid, peer)) return { server, session }
  }
  return undefined
}

/** The kernel's facts about the process that connected, which a selector fits. */
const byProcess = ({ peer, clientId }: CallerEvidence, snapshot: Snapshot): Server => {
  const matching = peer === undefined ? [] : registryOf(snapshot).matching(peer)
  const named = clientId === undefined ? matching : matching.filter(({ server }) => server === clientId)
  return onlyOne(named)
}

/**
 * Proves which server calls: by a client assertion, else by a client secret, else by the kernel's facts about the process.
 * @throws DeputyError `workload_unknown`, `workload_unverified`, `workload_ambiguous`, `malformed_request`, those of exec sessions
 */
export const proveWorkload = async (
  deps: ProofDependencies,
  evidence: CallerEvidence,
  snapshot: Snapshot,
): Promise<Proof> => {
  const { clientAssertion: assertion, clientSecret: secret, hosted } = evidence
  if (hosted !== undefined) return { method: 'hosted', server: byHosting(hosted, snapshot) }
  if (assertion !== undefined && secret !== undefined)
    throw refuse('malformed_request', { problem: 'more than one way of client authentication' })
  const account = assertion === undefined ? undefined : serviceAccountOf(assertion)
  if (assertion !== undefined && account !== undefined)
    return {
      method: 'kubernetes',
      server: await byServiceAccount(deps, { ...account, assertion }, evidence, snapshot),
    }
  if (assertion !== undefined)
    return { method: 'private_key_jwt', server: await byAssertion(deps, assertion, evidence, snapshot) }
  if (secret !== undefined && deps.exec.isToken(secret))
    return { method: 'exec', ...bySession(deps.exec, secret, evidence, snapshot) }
  if (secret !== undefined)
    return { method: 'client_secret', server: await bySecret(deps.checkSecret, secret, evidence, snapshot) }
  const started = byStart(deps.exec, evidence, snapshot)
  if (started !== undefined) return { method: 'exec', ...started }
  return { method: 'unix', server: byProcess(evidence, snapshot) }
}

/** The way of client authentication that a caller tried. */
export const methodOf = ({ clientAssertion, clientSecret, hosted }: CallerEvidence): AttestedWorkload['method'] =>
  hosted !== undefined
    ? 'hosted'
    : clientAssertion !== undefined
      ? serviceAccountOf(clientAssertion) === undefined
        ? 'private_key_jwt'
        : 'kubernetes'
      : clientSecret !== undefined
        ? 'client_secret'
        : 'unix'
