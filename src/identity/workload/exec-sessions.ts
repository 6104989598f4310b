import { hash as digest } from 'node:crypto'
import { createLru } from '#foundation/lru'
import type { Clock, Random } from '#clock'
import type { Server } from '#config'
import { type DeputyError, refuse } from '#errors'
import { equalInConstantTime, randomText, Secret } from '#foundation/crypto'
import type { CallerEvidence, PeerProcess } from './caller-evidence.ts'
import { ancestryOf, isSameProcess, readProcess, userOf } from './process-table.ts'

/** A stdio server that `deputy exec` has started, for as long as it runs and the command stays connected. */
export interface ExecSession {
  readonly id: string
  readonly server: string
  /** The Unix user, by the kernel's word. */
  readonly uid: number
  readonly pid: number
  /** Clock ticks since boot: with the pid it names one process for good. */
  readonly startedAt: string
  readonly tenant: string
  /** The user for whom it acts; undefined: for itself. */
  readonly user: string | undefined
  /** When it began (ms since the epoch). */
  readonly since: number
}

/** What whoever has begun a session is told of it. */
export type ExecEvent =
  | { readonly event: 'changed'; readonly downstream: string }
  | { readonly event: 'ended'; readonly error: DeputyError | undefined }

export interface ExecSessions {
  /**
   * Begins a session for a child of the calling process. @param given.resume the token of this child's session before the daemon was started anew
   * @throws DeputyError `exec_not_child`, `rate_limited`, `malformed_request`
   */
  begin(given: {
    caller: PeerProcess
    pid: number
    server: string
    tenant: string
    user: string | undefined
    resume?: Secret
    tell: (event: ExecEvent) => void
  }): { session: ExecSession; token: Secret }
  isLive(session: ExecSession): boolean
  /** Ends it; what was got in it is given up. */
  end(session: ExecSession, error?: DeputyError): void
  /** Whether a client secret is the token of a session, by its form. */
  isToken(secret: Secret): boolean
  /** The session of a token. @throws DeputyError `exec_session_over`, `parameter_missing` without the server's id */
  byToken(token: Secret, server: string | undefined, peer: PeerProcess | undefined): ExecSession
  /** The sessions of a process, or of one that it descends from: the nearest first. */
  of(peer: PeerProcess): readonly ExecSession[]
  /** For whom the session of a caller acts, which its attestation shows to be its own; undefined where it has none. */
  startedFor(evidence: Pick<CallerEvidence, 'peer' | 'clientId' | 'clientSecret'>): 'session' | 'server' | undefined
  /** A lease was handed out: in a session, or to somebody who has none. */
  leased(lease: string, session: ExecSession | undefined): void
  /** Tells the sessions that a mapping's downstream has another credential now. */
  changed(downstreams: readonly string[], tenant: string): void
  /** The daemon ends: everybody is told, and keeps what it has until the next one is there. */
  close(): void
}

const PREFIX = 'dxs_'
const TOKEN = /^dxs_[\w-]{43}$/
/** Sessions of one Unix user at most. */
const MOST = 500
/** How often is looked whether the processes still run (ms). */
const LOOK = 1000
/** Leases that are remembered as somebody else's too. */
const REMEMBERED = 20_000

interface Entry {
  readonly session: ExecSession
  readonly key: string
  readonly leases: Set<string>
  readonly tell: (event: ExecEvent) => void
}

/** Whether files say that this Unix user may start it, and, of a process that asks for itself, that it is the right program. */
export const mayExec = (server: Server, uid: number, program?: Pick<PeerProcess, 'exe' | 'sha256'>): boolean =>
  server.attest.some(
    (way) =>
      'exec' in way &&
      way.exec.uid === uid &&
      (program === undefined ||
        ((way.exec.command === undefined || way.exec.command === program.exe) &&
          (way.exec.sha256 === undefined || way.exec.sha256 === program.sha256))),
  )

/** The exec sessions of this daemon. They are in memory alone: a daemon that is started anew is told of them again. */
export const createExecSessions = (options: {
  readonly clock: Clock
  readonly random: Random
  /** Called when a session is over. */
  readonly over: (session: ExecSession, error: DeputyError | undefined) => void
  /** Called with leases that a session had and nobody else has: nobody should get them any more. */
  readonly release: (session: ExecSession, leases: readonly string[]) => void
}): ExecSessions => {
  const { random } = options
  const live = new Map<string, Entry>()
  const byKey = new Map<string, Entry>()
  const shared = createLru<string, true>({ max: REMEMBERED })
  /** Of the sessions that there are now: a process is looked up once for them, by the same object for every request of its connection. */
  let found = new WeakMap<PeerProcess, readonly ExecSession[]>()
  const keyOf = (token: Secret): string => digest('sha256', token.reveal(), 'hex')
  const isHeld = (lease: string): boolean => shared.has(lease) || live.values().some(({ leases }) => leases.has(lease))

  const end = ({ id }: ExecSession, error?: DeputyError): void => {
    const entry = live.get(id)
    if (entry === undefined) return
    live.delete(id)
    byKey.delete(entry.key)
    found = new WeakMap()
    entry.tell({ event: 'ended', error })
    options.over(entry.session, error)
    const left = [...entry.leases].filter((lease) => !isHeld(lease))
    if (left.length > 0) options.release(entry.session, left)
  }

  /** By the kernel's word, not the caller's: start times are read before and after, so that both are the same processes all the while (threat 2). */
  const readChild = (caller: PeerProcess, pid: number): string => {
    const child = readProcess(pid)
    const uid = userOf(pid)
    const [parent, again] = [readProcess(caller.pid), readProcess(pid)]
    if (
      caller.startedAt === undefined ||
      child === undefined ||
      child.parent !== caller.pid ||
      uid !== caller.uid ||
      parent?.startedAt !== caller.startedAt ||
      again?.startedAt !== child.startedAt ||
      again.parent !== caller.pid
    )
      throw refuse('exec_not_child', { pid })
    return child.startedAt
  }

  const timer = setInterval(() => {
    for (const { session } of live.values()) if (!isSameProcess(session)) end(session)
  }, LOOK)
  timer.unref()

  return {
    begin({ caller, pid, server, tenant, user, resume, tell }) {
      const startedAt = readChild(caller, pid)
      if (
        live
          .values()
          .filter(({ session }) => session.uid === caller.uid)
          .reduce((count) => count + 1, 0) >= MOST
      )
        throw refuse('rate_limited', { what: `exec sessions of the Unix user ${caller.uid}`, seconds: 60 })
      const session: ExecSession = {
        id: randomText(random, 12),
        server,
        uid: caller.uid,
        pid,
        startedAt,
        tenant,
        user,
        since: options.clock.now(),
      }
      if (resume !== undefined && !TOKEN.test(resume.reveal()))
        throw refuse('malformed_request', { problem: 'resume is no token of an exec session' })
      const token = resume ?? new Secret(`${PREFIX}${randomText(random, 32)}`)
      const key = keyOf(token)
      const before = byKey.get(key)?.session
      if (before !== undefined) {
        if (before.pid !== pid || before.startedAt !== startedAt || before.server !== server)
          throw refuse('exec_not_child', { pid })
        end(before)
      }
      const entry: Entry = { session, key, leases: new Set(), tell }
      live.set(session.id, entry)
      byKey.set(key, entry)
      found = new WeakMap()
      return { session, token }
    },
    isLive: ({ id }) => live.has(id),
    end,
    isToken: (secret) => TOKEN.test(secret.reveal()),
    byToken(token, server, peer) {
      if (server === undefined) throw refuse('parameter_missing', { parameter: 'client_id' })
      const over = (problem: string) => refuse('exec_session_over', { server, problem })
      const key = keyOf(token)
      const found = byKey.get(key)
      if (found === undefined || !equalInConstantTime(found.key, key) || found.session.server !== server)
        throw over('no session that goes on has this token')
      const { session } = found
      if (peer !== undefined && peer.uid !== session.uid) throw over("it is another Unix user's")
      if (!isSameProcess(session)) {
        end(session)
        throw over('the process has ended')
      }
      return session
    },
    of(peer) {
      const { pid, startedAt } = peer
      const known = live.size === 0 ? [] : found.get(peer)
      if (known !== undefined) return known
      const own = [...live.values()].map(({ session }) => session).filter(({ uid }) => uid === peer.uid)
      // Of several that a process has, the latest is its own by now.
      const sessions =
        own.length === 0 || startedAt === undefined
          ? []
          : ancestryOf({ pid, startedAt }).flatMap((ancestor) =>
              own
                .filter((session) => session.pid === ancestor.pid && session.startedAt === ancestor.startedAt)
                .reverse(),
            )
      found.set(peer, sessions)
      return sessions
    },
    startedFor({ peer, clientId, clientSecret }) {
      const session =
        clientSecret === undefined
          ? peer === undefined
            ? undefined
            : this.of(peer)[0]
          : this.isToken(clientSecret)
            ? this.byToken(clientSecret, clientId, peer)
            : undefined
      return session === undefined ? undefined : session.user === undefined ? 'server' : 'session'
    },
    leased(lease, session) {
      if (session === undefined) {
        shared.set(lease, true)
        return
      }
      const entry = live.get(session.id)
      // It ended while the credential was being made.
      if (entry !== undefined) entry.leases.add(lease)
      else if (!isHeld(lease)) options.release(session, [lease])
    },
    changed(downstreams, tenant) {
      for (const { session, tell } of live.values())
        if (session.tenant === tenant) for (const downstream of downstreams) tell({ event: 'changed', downstream })
    },
    close() {
      clearInterval(timer)
      for (const { tell } of live.values()) tell({ event: 'ended', error: refuse('draining', { seconds: 1 }) })
      live.clear()
      byKey.clear()
    },
  }
}
