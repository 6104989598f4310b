import { createHash } from 'node:crypto'
import type { Clock } from '#clock'
import { lengthPrefixed } from '#foundation/crypto'
import type { UnknownCallerStore } from '#foundation/store'
import type { CallerEvidence, PeerProcess } from './caller-evidence.ts'
import { clientOf } from './client-assertion.ts'
import { identifyPeer } from './peer-credentials.ts'

/** The same unknown caller is written down once in this time (ms), however often it calls. */
const QUIET = 10_000
/** Callers that are written down in that time at most: a client id can be made up anew with each request. */
const MAX_WRITTEN = 100

/** Everything that can be read about a process, even where no selector needs it: an admin who looks for shadow servers needs its path. */
const examine = async (peer: PeerProcess): Promise<PeerProcess> => {
  try {
    return await identifyPeer(peer, { exe: true, sha256: true })
  } catch {
    return peer
  }
}

/**
 * Writes down callers that no server matches, with all that is known about them (`deputy server unknown`). A flood of
 * requests does not become a flood of writes. Times are milliseconds since the Unix epoch.
 */
export const createUnknownRecorder = (store: UnknownCallerStore, clock: Clock) => {
  let written = new Set<string>()
  let since = -Infinity

  /** Whether this is still to be done in the present stretch of time. */
  const isDue = (id: string): boolean => {
    const now = clock.now()
    if (now - since >= QUIET || now < since) {
      written = new Set()
      since = now
    }
    if (written.has(id) || written.size >= 2 * MAX_WRITTEN) return false
    written.add(id)
    return true
  }

  return async ({ peer, clientId, clientAssertion }: CallerEvidence): Promise<void> => {
    const claimed = (clientId ?? (clientAssertion === undefined ? undefined : clientOf(clientAssertion)))?.slice(0, 128)
    // Asked first by what costs nothing to know, so that a flood does not make executables be read either.
    if (!isDue(`asked ${idOf([claimed ?? '', peer?.pid ?? '', peer?.startedAt ?? '', peer?.uid ?? ''])}`)) return
    const known = peer === undefined ? undefined : await examine(peer)
    const facts = {
      ...(claimed === undefined ? {} : { claimed }),
      ...(known === undefined ? { over: 'tcp' } : { over: 'unix', uid: known.uid, gid: known.gid }),
      ...(known?.exe === undefined ? {} : { exe: known.exe }),
      ...(known?.sha256 === undefined ? {} : { sha256: known.sha256 }),
    }
    const id = idOf(Object.entries(facts).flat())
    if (!isDue(id)) return
    await store.record(id, { ...facts, ...(known === undefined ? {} : { pid: known.pid }) }, clock.now())
  }
}

const idOf = (facts: readonly (string | number)[]): string =>
  createHash('sha256')
    .update(lengthPrefixed(...facts.map(String)))
    .digest('hex')
    .slice(0, 24)
