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

/** An event of a session, for the `deputy exec` that began it. */
export type ExecEvent =
  | { readonly event: 'changed'; readonly downstream: string }
  | { readonly event: 'ended'; readonly error: DeputyError | undefined }

export interface ExecSessions {
  /**
   * Begins a session for a child of the calling process. @param given.resume the token of this child's session before the daemon restarted
   * @throws DeputyError `exec_not_child`, `rate_limited`, `malformed_request`
   */
  begin(given: {
    caller: PeerProcess
    pid: number
    server: string
    tenant: string
    user: string | undefined
    resume?: Secret
    notify: (event: ExecEvent) => void
  }): { session: ExecSession; token: Secret }
  isLive(session: ExecSession): boolean
  /** Ends it, and releases the leases that it holds. */
  end(session: ExecSession, error?: DeputyError): void
  /** Whether a client secret is the token of a session, by its form. */
  isToken(secret: Secret): boolean
  /** The session of a token. @throws DeputyError `exec_session_over`, `parameter_missing` without the server's id */
  byToken(token: Secret, server: string | undefined, peer: PeerProcess | undefined): ExecSession
  /** The sessions of a process, or of one that it descends from: the nearest first. */
  of(peer: PeerProcess): readonly ExecSession[]
  /** Whether the session of a caller acts for its user or for the server itself; undefined where the caller has no session. */
  startedFor(evidence: Pick<CallerEvidence, 'peer' | 'clientId' | 'clientSecret'>): 'session' | 'server' | undefined
  /** A lease was handed out: in a session, or to a caller without one. */
  leased(lease: string, session: ExecSession | undefined): void
  /** Notifies the sessions that a downstream has another credential now. */
  changed(downstreams: readonly string[], tenant: string): void
  /** The daemon stops: every session is notified, and its program keeps its credentials until the next daemon runs. */
  close(): void
}

const PREFIX = 'dxs_'
const TOKEN = /^dxs_[\w-]{43}$/
/** Sessions of one Unix user at most. */
const MAX_SESSIONS = 500
/** Interval of the check that the processes still run (ms). */
const CHECK_INTERVAL_MS = 1000
/** Leases that are remembered as handed out without a session, at most. */
const MAX_SHARED_LEASES = 20_000

interface Entry {
  readonly session: ExecSession
  readonly key: string
  readonly leases: Set<string>
  readonly notify: (event: ExecEvent) => void
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

/**
 * Reads when a child of the caller started. The kernel's word counts, not the caller's: start times are read before and after,
 * so that both are the same processes throughout (threat 2).
 * @throws DeputyError `exec_not_child`
 */
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

const keyOf = (token: Secret): string => digest('sha256', token.reveal(), 'hex')

interface ExecSessionOptions {
  readonly clock: Clock
  readonly random: Random
  /** Called when a session is over. */
  readonly over: (session: ExecSession, error: DeputyError | undefined) => void
  /** Called with leases that only the ended session held. */
  readonly release: (session: ExecSession, leases: readonly string[]) => void
}

class ExecSessionTable implements ExecSessions {
  readonly #options: ExecSessionOptions
  readonly #live = new Map<string, Entry>()
  readonly #byKey = new Map<string, Entry>()
  /** Leases that were handed out without a session. */
  readonly #shared = createLru<string, true>({ max: MAX_SHARED_LEASES })
  /** Of the sessions that run now: a process is looked up once for them, by the same object for every request of its connection. */
  #found = new WeakMap<PeerProcess, readonly ExecSession[]>()
  readonly #timer: NodeJS.Timeout

  constructor(options: ExecSessionOptions) {
    this.#options = options
    this.#timer = setInterval(() => {
      for (const { session } of this.#live.values()) if (!isSameProcess(session)) this.end(session)
    }, CHECK_INTERVAL_MS)
    this.#timer.unref()
  }

  begin(given: Parameters<ExecSessions['begin']>[0]): { session: ExecSession; token: Secret } {
    const { caller, pid, server, tenant, user, resume, notify } = given
    const startedAt = readChild(caller, pid)
    this.#assertRoom(caller.uid)
    const { random, clock } = this.#options
    const id = randomText(random, 12)
    const session: ExecSession = { id, server, uid: caller.uid, pid, startedAt, tenant, user, since: clock.now() }
    if (resume !== undefined && !TOKEN.test(resume.reveal()))
      throw refuse('malformed_request', { problem: 'resume is no token of an exec session' })
    const token = resume ?? new Secret(`${PREFIX}${randomText(random, 32)}`)
    const key = keyOf(token)
    const before = this.#byKey.get(key)?.session
    if (before !== undefined) {
      if (before.pid !== pid || before.startedAt !== startedAt || before.server !== server)
        throw refuse('exec_not_child', { pid })
      this.end(before)
    }
    const entry: Entry = { session, key, leases: new Set(), notify }
    this.#live.set(session.id, entry)
    this.#byKey.set(key, entry)
    this.#found = new WeakMap()
    return { session, token }
  }

  isLive({ id }: ExecSession): boolean {
    return this.#live.has(id)
  }

  end({ id }: ExecSession, error?: DeputyError): void {
    const entry = this.#live.get(id)
    if (entry === undefined) return
    this.#live.delete(id)
    this.#byKey.delete(entry.key)
    this.#found = new WeakMap()
    entry.notify({ event: 'ended', error })
    this.#options.over(entry.session, error)
    const left = [...entry.leases].filter((lease) => !this.#isHeld(lease))
    if (left.length > 0) this.#options.release(entry.session, left)
  }

  isToken(secret: Secret): boolean {
    return TOKEN.test(secret.reveal())
  }

  byToken(token: Secret, server: string | undefined, peer: PeerProcess | undefined): ExecSession {
    if (server === undefined) throw refuse('parameter_missing', { parameter: 'client_id' })
    const over = (problem: string) => refuse('exec_session_over', { server, problem })
    const key = keyOf(token)
    const found = this.#byKey.get(key)
    if (found === undefined || !equalInConstantTime(found.key, key) || found.session.server !== server)
      throw over('no running session has this token')
    const { session } = found
    if (peer !== undefined && peer.uid !== session.uid) throw over("it is another Unix user's")
    if (!isSameProcess(session)) {
      this.end(session)
      throw over('the process has ended')
    }
    return session
  }

  of(peer: PeerProcess): readonly ExecSession[] {
    const { pid, startedAt } = peer
    const known = this.#live.size === 0 ? [] : this.#found.get(peer)
    if (known !== undefined) return known
    const own = [...this.#live.values()].map(({ session }) => session).filter(({ uid }) => uid === peer.uid)
    // Of several sessions of one process, the latest is its own by now.
    const sessions =
      own.length === 0 || startedAt === undefined
        ? []
        : ancestryOf({ pid, startedAt }).flatMap((ancestor) =>
            own.filter((session) => session.pid === ancestor.pid && session.startedAt === ancestor.startedAt).reverse(),
          )
    this.#found.set(peer, sessions)
    return sessions
  }

  startedFor(evidence: Pick<CallerEvidence, 'peer' | 'clientId' | 'clientSecret'>): 'session' | 'server' | undefined {
    const session = this.#sessionOf(evidence)
    if (session === undefined) return undefined
    return session.user === undefined ? 'server' : 'session'
  }

  leased(lease: string, session: ExecSession | undefined): void {
    if (session === undefined) {
      this.#shared.set(lease, true)
      return
    }
    const entry = this.#live.get(session.id)
    // It ended while the credential was being made.
    if (entry !== undefined) entry.leases.add(lease)
    else if (!this.#isHeld(lease)) this.#options.release(session, [lease])
  }

  changed(downstreams: readonly string[], tenant: string): void {
    for (const { session, notify } of this.#live.values())
      if (session.tenant === tenant) for (const downstream of downstreams) notify({ event: 'changed', downstream })
  }

  close(): void {
    clearInterval(this.#timer)
    for (const { notify } of this.#live.values()) notify({ event: 'ended', error: refuse('draining', { seconds: 1 }) })
    this.#live.clear()
    this.#byKey.clear()
  }

  /** The session that a caller's evidence shows: by its token, else by its process. */
  #sessionOf({ peer, clientId, clientSecret }: Pick<CallerEvidence, 'peer' | 'clientId' | 'clientSecret'>) {
    if (clientSecret === undefined) return peer === undefined ? undefined : this.of(peer)[0]
    return this.isToken(clientSecret) ? this.byToken(clientSecret, clientId, peer) : undefined
  }

  #isHeld(lease: string): boolean {
    return this.#shared.has(lease) || this.#live.values().some(({ leases }) => leases.has(lease))
  }

  /** @throws DeputyError `rate_limited` where a Unix user has too many sessions */
  #assertRoom(uid: number): void {
    const own = [...this.#live.values()].filter(({ session }) => session.uid === uid)
    if (own.length >= MAX_SESSIONS)
      throw refuse('rate_limited', { what: `exec sessions of the Unix user ${uid}`, seconds: 60 })
  }
}

/** The exec sessions of this daemon. They are kept in memory only: after a restart each `deputy exec` registers its session again. */
export const createExecSessions = (options: ExecSessionOptions): ExecSessions => new ExecSessionTable(options)
