import type { Clock, Random } from '#clock'
import type { Server, Snapshot } from '#config'
import { asDeputyError, type DeputyError, refuse } from '#errors'
import type { ReplayStore, UnknownCallerStore } from '#foundation/store'
import type { Telemetry } from '#foundation/telemetry'
import type { AttestedWorkload } from './attestor.ts'
import type { CallerEvidence } from './caller-evidence.ts'
import { clientOf, verifyClientAssertion } from './client-assertion.ts'
import { createClientSecretCheck } from './client-secret.ts'
import { mayExec, type ExecSession, type ExecSessions } from './exec-sessions.ts'
import { isInUse, registryOf } from './registry.ts'
import { accountsOf, serviceAccountOf, verifyServiceAccount, type ClusterKeys } from './service-account.ts'
import { createUnknownRecorder } from './unknown-caller.ts'

/** Proves which workload calls; made by `createAttestor`. */
export type Attest = (evidence: CallerEvidence, snapshot: Snapshot) => Promise<AttestedWorkload>

/**
 * Attestation: by a client assertion, else by a client secret, else by what the kernel says of the process: that
 * `deputy exec` has started it, or that a selector fits it. A server is looked up in the snapshot anew each time, so that
 * one that was retired a moment ago gets nothing (threat 15).
 * Who proves nothing is written down with all that is known: that is how shadow servers are found.
 */
export const createAttestor = (deps: {
  readonly replays: ReplayStore
  readonly unknownCallers: UnknownCallerStore
  readonly audiences: () => readonly string[]
  /** What client assertions may be addressed to besides: the port of the local API, to a client that has discovered it there. */
  readonly localAudiences?: readonly string[]
  readonly clusterKeys: ClusterKeys
  readonly exec: Pick<ExecSessions, 'isToken' | 'byToken' | 'of'>
  readonly clock: Clock
  readonly random: Random
  readonly telemetry: Telemetry
}): Attest => {
  const isRight = createClientSecretCheck(deps.random)

  const byAssertion = async (assertion: string, { clientId }: CallerEvidence, snapshot: Snapshot): Promise<Server> => {
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

  /** The account says which server it is; where it stands for several, the client id has to. */
  const byServiceAccount = async (
    assertion: string,
    account: { issuer: string; subject: string },
    { clientId }: CallerEvidence,
    snapshot: Snapshot,
  ): Promise<Server> => {
    const named = [...registryOf(snapshot).all()].filter(
      (server) => accountsOf(server, account).length > 0 && (clientId === undefined || clientId === server.server),
    )
    const inUse = named.length > 1 ? named.filter(isInUse) : named
    const [server, another] = inUse.length > 0 ? inUse : named
    if (server === undefined) throw refuse('workload_unknown')
    if (another !== undefined) throw refuse('workload_ambiguous')
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

  const bySecret = async ({ clientId, clientSecret }: CallerEvidence, snapshot: Snapshot): Promise<Server> => {
    const server = clientId === undefined ? undefined : registryOf(snapshot).byId(clientId)
    const hashes = server?.attest.flatMap((way) => ('client_secret' in way ? [way.client_secret.scrypt] : [])) ?? []
    if (clientId === undefined) throw refuse('workload_unknown')
    for (const hash of hashes) if (await isRight(clientSecret!, hash, clientId)) return server!
    // A caller learns neither by the words nor by the time whether there is a server of this id.
    if (hashes.length === 0) await isRight(clientSecret!, undefined, clientId)
    throw refuse('workload_unverified', { server: clientId.slice(0, 100), problem: 'the client secret is wrong' })
  }

  /** The token of an exec session: what the command asks for its child, or the child where it has no Unix socket. */
  const bySession = (
    { clientId, clientSecret, peer }: CallerEvidence,
    snapshot: Snapshot,
  ): { server: Server; session: ExecSession } => {
    const session = deps.exec.byToken(clientSecret!, clientId, peer)
    const server = registryOf(snapshot).byId(session.server)
    if (server === undefined || !mayExec(server, session.uid))
      throw refuse('exec_not_registered', { server: session.server, uid: session.uid })
    return { server, session }
  }

  /** A process that `deputy exec` has started, or that such a process has. */
  const byStart = (
    { peer, clientId }: CallerEvidence,
    snapshot: Snapshot,
  ): { server: Server; session: ExecSession } | undefined => {
    if (peer === undefined) return undefined
    for (const session of deps.exec.of(peer)) {
      const server =
        clientId === undefined || clientId === session.server ? registryOf(snapshot).byId(session.server) : undefined
      if (server !== undefined && mayExec(server, session.uid, peer)) return { server, session }
    }
    return undefined
  }

  const byProcess = ({ peer, clientId }: CallerEvidence, snapshot: Snapshot): Server => {
    const matching = peer === undefined ? [] : registryOf(snapshot).matching(peer)
    const named = clientId === undefined ? matching : matching.filter(({ server }) => server === clientId)
    // A retired server and the one that took its place may run as the same user: the one in use is meant.
    const inUse = named.length > 1 ? named.filter(isInUse) : named
    const [server, another] = inUse.length > 0 ? inUse : named
    if (server === undefined) throw refuse('workload_unknown')
    if (another !== undefined) throw refuse('workload_ambiguous')
    return server
  }

  const prove = async (
    evidence: CallerEvidence,
    snapshot: Snapshot,
  ): Promise<Pick<AttestedWorkload, 'server' | 'method' | 'session'>> => {
    if (evidence.clientAssertion !== undefined && evidence.clientSecret !== undefined)
      throw refuse('malformed_request', { problem: 'more than one way of client authentication' })
    const account = evidence.clientAssertion === undefined ? undefined : serviceAccountOf(evidence.clientAssertion)
    if (account !== undefined)
      return {
        method: 'kubernetes',
        server: await byServiceAccount(evidence.clientAssertion!, account, evidence, snapshot),
      }
    if (evidence.clientAssertion !== undefined)
      return { method: 'private_key_jwt', server: await byAssertion(evidence.clientAssertion, evidence, snapshot) }
    if (evidence.clientSecret !== undefined && deps.exec.isToken(evidence.clientSecret))
      return { method: 'exec', ...bySession(evidence, snapshot) }
    if (evidence.clientSecret !== undefined)
      return { method: 'client_secret', server: await bySecret(evidence, snapshot) }
    const started = byStart(evidence, snapshot)
    if (started !== undefined) return { method: 'exec', ...started }
    return { method: 'unix', server: byProcess(evidence, snapshot) }
  }

  const recordUnknown = createUnknownRecorder(deps.unknownCallers, deps.clock)

  return async (evidence, snapshot) => {
    try {
      const { server, method, session } = await prove(evidence, snapshot)
      assertApproved(server)
      deps.telemetry.attestation({ method, outcome: 'verified' })
      const warning = warningOf(server)
      return {
        server,
        method,
        ...(session === undefined ? {} : { session }),
        ...(evidence.peer === undefined ? {} : { peer: evidence.peer }),
        ...(warning === undefined ? {} : { warning }),
      }
    } catch (thrown) {
      const error = asDeputyError(thrown)
      deps.telemetry.attestation({ method: methodOf(evidence), outcome: 'refused', error: error.code })
      if (isUnproved(error)) await recordUnknown(evidence)
      throw error
    }
  }
}

const methodOf = ({ clientAssertion, clientSecret }: CallerEvidence): AttestedWorkload['method'] =>
  clientAssertion !== undefined
    ? serviceAccountOf(clientAssertion) === undefined
      ? 'private_key_jwt'
      : 'kubernetes'
    : clientSecret !== undefined
      ? 'client_secret'
      : 'unix'

const isUnproved = ({ code }: DeputyError): boolean =>
  code === 'workload_unknown' || code === 'workload_unverified' || code === 'workload_ambiguous'

/** @throws DeputyError `workload_not_approved` for a proposed or retired server */
export const assertApproved = (registered: Server): void => {
  if (isInUse(registered)) return
  const { server, status, owner, replaced_by: replacement } = registered
  throw refuse('workload_not_approved', {
    server,
    status,
    owner,
    replacement: replacement === undefined ? '' : `, or use ${replacement}`,
  })
}

/** What a deprecated server is told. */
export const warningOf = ({ server, status, replaced_by: replacement }: Server): string | undefined =>
  status !== 'deprecated'
    ? undefined
    : `${server} is deprecated${replacement === undefined ? '' : `; move to ${replacement}`}`
