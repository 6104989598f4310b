import { createHash } from 'node:crypto'
import type { Clock, Random } from '../clock.ts'
import type { Server } from '../config/server.ts'
import type { Snapshot } from '../config/snapshot.ts'
import { lengthPrefixed } from '../crypto/additional-data.ts'
import { asDeputyError, refuse, type DeputyError } from '../errors.ts'
import type { Telemetry } from '../observe/telemetry.ts'
import type { ReplayStore, UnknownCallerStore } from '../store/store.ts'
import type { AttestedWorkload, CallerEvidence } from './attestor.ts'
import { clientOf, verifyClientAssertion } from './client-assertion.ts'
import { createClientSecretCheck } from './client-secret.ts'
import { registryOf } from './registry.ts'

/** Proves which workload calls; made by `createAttestor`. */
export type Attest = (evidence: CallerEvidence, snapshot: Snapshot) => Promise<AttestedWorkload>

/** The same unknown caller is written down once in this time (ms), however often it calls. */
const QUIET = 10_000

/**
 * Attestation: by a client assertion, else by a client secret, else by what the kernel says of the process. A server
 * is looked up in the snapshot anew each time, so that one that was retired a moment ago gets nothing (threat 15).
 * Who proves nothing is written down with all that is known: that is how shadow servers are found.
 */
export const createAttestor = (deps: {
  readonly replays: ReplayStore
  readonly unknownCallers: UnknownCallerStore
  readonly audiences: () => readonly string[]
  readonly clock: Clock
  readonly random: Random
  readonly telemetry: Telemetry
}): Attest => {
  const isRight = createClientSecretCheck(deps.random)

  const byAssertion = async (assertion: string, { clientId }: CallerEvidence, snapshot: Snapshot): Promise<Server> => {
    const claimed = clientOf(assertion)
    const server = claimed === undefined ? undefined : registryOf(snapshot).byId(claimed)
    if (server === undefined || (clientId !== undefined && clientId !== claimed)) throw refuse('workload_unknown')
    await verifyClientAssertion(assertion, server, { audiences: deps.audiences(), replays: deps.replays, clock: deps.clock })
    return server
  }

  const bySecret = async ({ clientId, clientSecret }: CallerEvidence, snapshot: Snapshot): Promise<Server> => {
    const server = clientId === undefined ? undefined : registryOf(snapshot).byId(clientId)
    const hashes = server?.attest.flatMap((way) => 'client_secret' in way ? [way.client_secret.scrypt] : []) ?? []
    if (server === undefined || hashes.length === 0) throw refuse('workload_unknown')
    for (const hash of hashes) if (await isRight(clientSecret!, hash)) return server
    throw refuse('workload_unverified', { server: server.server, problem: 'the client secret is wrong' })
  }

  const byProcess = ({ peer, clientId }: CallerEvidence, snapshot: Snapshot): Server => {
    const matching = peer === undefined ? [] : registryOf(snapshot).matching(peer)
    const named = clientId === undefined ? matching : matching.filter(({ server }) => server === clientId)
    const [server, another] = named
    if (server === undefined) throw refuse('workload_unknown')
    if (another !== undefined) throw refuse('workload_ambiguous')
    return server
  }

  const prove = async (evidence: CallerEvidence, snapshot: Snapshot): Promise<{ server: Server; method: AttestedWorkload['method'] }> => {
    if (evidence.clientAssertion !== undefined) return { method: 'private_key_jwt', server: await byAssertion(evidence.clientAssertion, evidence, snapshot) }
    if (evidence.clientSecret !== undefined) return { method: 'client_secret', server: await bySecret(evidence, snapshot) }
    return { method: 'unix', server: byProcess(evidence, snapshot) }
  }

  const recordUnknown = createUnknownRecorder(deps.unknownCallers, deps.clock)

  return async (evidence, snapshot) => {
    try {
      const { server, method } = await prove(evidence, snapshot)
      assertApproved(server)
      deps.telemetry.attestation({ method, outcome: 'verified' })
      const warning = warningOf(server)
      return { server, method, ...(evidence.peer === undefined ? {} : { peer: evidence.peer }), ...(warning === undefined ? {} : { warning }) }
    } catch (thrown) {
      const error = asDeputyError(thrown)
      deps.telemetry.attestation({ method: methodOf(evidence), outcome: 'refused', error: error.code })
      if (isUnproved(error)) await recordUnknown(evidence)
      throw error
    }
  }
}

const methodOf = ({ clientAssertion, clientSecret }: CallerEvidence): AttestedWorkload['method'] =>
  clientAssertion !== undefined ? 'private_key_jwt' : clientSecret !== undefined ? 'client_secret' : 'unix'

const isUnproved = ({ code }: DeputyError): boolean => code === 'workload_unknown' || code === 'workload_unverified' || code === 'workload_ambiguous'

const assertApproved = ({ server, status, owner, replaced_by: replacement }: Server): void => {
  if (status === 'approved' || status === 'deprecated') return
  throw refuse('workload_not_approved', { server, status, owner, replacement: replacement === undefined ? '' : `, or use ${replacement}` })
}

const warningOf = ({ server, status, replaced_by: replacement }: Server): string | undefined =>
  status !== 'deprecated' ? undefined : `${server} is deprecated${replacement === undefined ? '' : `; move to ${replacement}`}`

/** Writes unknown callers down, each at most once in a while: a flood of requests must not become a flood of writes. */
const createUnknownRecorder = (store: UnknownCallerStore, clock: Clock) => {
  const lastWritten = new Map<string, number>()
  return async ({ peer, clientId, clientAssertion }: CallerEvidence): Promise<void> => {
    const claimed = clientId ?? (clientAssertion === undefined ? undefined : clientOf(clientAssertion))
    const facts = {
      ...(claimed === undefined ? {} : { claimed: claimed.slice(0, 128) }),
      ...(peer === undefined ? { over: 'tcp' } : { over: 'unix', uid: peer.uid, gid: peer.gid }),
      ...(peer?.exe === undefined ? {} : { exe: peer.exe }), ...(peer?.sha256 === undefined ? {} : { sha256: peer.sha256 }),
    }
    const id = createHash('sha256').update(lengthPrefixed(...Object.entries(facts).flat().map(String))).digest('hex').slice(0, 24)
    const now = clock.now()
    if (now - (lastWritten.get(id) ?? -Infinity) < QUIET) return
    if (lastWritten.size > 1000) lastWritten.clear()
    lastWritten.set(id, now)
    await store.record(id, { ...facts, ...(peer === undefined ? {} : { pid: peer.pid }) }, now)
  }
}
