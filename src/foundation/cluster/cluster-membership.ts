import { setTimeout as sleep } from 'node:timers/promises'
import type { Clock } from '#clock'
import { DeputyError, refuse } from '#errors'
import type { ClusterStore, Position, Renewal, RevocationChanges, Subscription } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import type { Incarnations } from './incarnation.ts'
import type { Confirmation, Membership, WriteChange } from './membership.ts'

/** Why a node looks again at what the store has: undefined where only the server is another process. */
export interface LookAgain {
  readonly problem: string | undefined
  /** The last change that the store has. */
  readonly last: Position
  /**
   * Since when the server is there, by its clock, less the skew (ms since the epoch): what was written before it is
   * older.
   */
  readonly since: number
}

export interface MembershipOptions {
  readonly store: ClusterStore
  readonly node: string
  /** Tells this process from the one before it and from one that was given the same name by mistake. */
  readonly incarnation: string
  /** When an incarnation of this node has started; undefined for a row that this installation has not written. */
  readonly startOf: (incarnation: string) => number | undefined
  /** Proves what this process acknowledges, and that another has acknowledged it itself. */
  readonly acknowledgements: Pick<Incarnations, 'prove' | 'isProven'>
  /** ms. */
  readonly lease: number
  /** ms by which clocks may differ, in time and in what they count as one lease. */
  readonly skew: number
  /** Takes the changes over: after it has returned this node hands out nothing that they cover. */
  readonly apply: (changes: RevocationChanges) => Promise<void> | void
  /**
   * Called when the store may have lost commits. The node has no lease until it resolves: what this node knows and the store does
   * not is written by then. Rejects where that was not possible; it is called again then.
   */
  readonly lookAgain: (found: LookAgain) => Promise<void>
  /** Called once, when a younger process has this node's name: this one has no lease any more. */
  readonly replaced: (error: DeputyError) => void
  /** Called after each renewal: the store has answered. */
  readonly renewed?: () => void
  readonly clock: Clock
  /** Never goes back, and goes on while the process is stopped (ms). */
  readonly monotonic: () => number
  /** A text that was never drawn before. */
  readonly newToken: () => string
  readonly logger: Logger
}

/** The first pause between two looks at the nodes that have not acknowledged (ms); it grows by half up to the second. */
const [FIRST_LOOK, LAST_LOOK] = [2, 10]

/** The pause between two looks at who else has this node's name, and between two tries of a write (ms). */
const NAME_LOOK = 50

/** After so long without a renewal the store may have forgotten the node's row (ms): it is not missed then. */
const ROW_REMEMBERED = 12 * 3_600_000

const NO_LEASE = { monotonic: -Infinity, wall: -Infinity }

/**
 * A lease of the shared store. The steps have the names of the model in `test/revocation/model.ts`:
 *
 * - renew: asks for a lease and for the last change, in one statement that a revocation cannot overlap;
 * - apply: takes all changes since those applied over; when the store announces a change, before it renews;
 * - acknowledge: the next renewal says up to which change this node has applied, never more;
 * - serve: only before the lease ends, counted from before the renewal was sent, less the skew;
 * - confirm: the node that revokes waits for each node's acknowledgement or the end of its lease by the store's clock,
 * and the skew;
 * - look again: a renewal says what the node knows of the past, by number and token. A store that has another past has lost
 *   commits: no lease, until what this node knows is written again and everything is read anew.
 */
export class ClusterMembership implements Membership {
  readonly #options: MembershipOptions
  #applied: Position | undefined
  /** The highest number of a change that was ever applied here: the store counts upwards. */
  #highest = 0
  #written: readonly Position[] = []
  /** The token that the last answered renewal left in the node's row, and the one that is sent until a renewal is answered. */
  #rowToken: string | undefined
  #nextToken: string | undefined
  #startedAt: number | undefined
  #server: string | undefined
  /** End of the lease by the monotonic clock, and by the wall clock for machines that slept in between. */
  #until = NO_LEASE
  #answeredAt = -Infinity
  #problem: string | null = 'it has no lease yet'
  #storeProblem: string | null = null
  /** Whether the store has told of a change since the last look at it. */
  #isTold = false
  #running: Promise<void> | undefined
  #queued: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #subscription: Subscription | undefined
  #closed = false
  #hasToldForged = false

  private constructor(options: MembershipOptions) {
    this.#options = options
  }

  /** Has a lease when it resolves. @throws DeputyError `store_unavailable`, `membership_lost` with a clock that is off, `start_failed` when another daemon has the name */
  static async start(options: MembershipOptions): Promise<ClusterMembership> {
    const lease = new ClusterMembership(options)
    await lease.#awaitName()
    try {
      await lease.#renewal()
      lease.assertHeld()
    } catch (error) {
      // The store may count a lease that this process has not taken: the next one of this name need not wait for its
      // end.
      await lease.close()
      throw error
    }
    lease.#subscription = await options.store.subscribe(() => {
      lease.#isTold = true
      lease.#renew()
    })
    lease.#schedule()
    return lease
  }

  #nameTaken(): DeputyError {
    return refuse('start_failed', {
      problem: `another daemon runs as the node ${this.#options.node} on this store`,
      fix: 'Give each daemon a name of its own under `node` in deputy.yaml, or stop the other one.',
    })
  }

  /** The lease of a process before this one may still run when that was killed; one that is renewed is another daemon's. */
  async #awaitName(): Promise<void> {
    const { store, node, incarnation, startOf, lease, skew, monotonic } = this.#options
    const isTaken = async (): Promise<boolean> =>
      (await store.nodes()).some(
        ({ id, about, leaseLeft }) =>
          about === node && id !== incarnation && startOf(id) !== undefined && leaseLeft + skew > 0,
      )
    for (const until = monotonic() + lease + 2 * skew; await isTaken();) {
      if (monotonic() > until) throw this.#nameTaken()
      await sleep(NAME_LOOK)
    }
  }

  #isHeld(): boolean {
    const { monotonic, clock } = this.#options
    return monotonic() < this.#until.monotonic && clock.now() < this.#until.wall
  }

  assertHeld(): void {
    if (this.#isHeld()) return
    throw refuse('membership_lost', {
      node: this.#options.node,
      problem: this.#problem ?? 'it was not renewed in time',
      seconds: 1,
    })
  }

  async epoch(): Promise<number> {
    return Math.max(await this.#options.store.now(), this.#options.clock.now()) + this.#options.skew
  }

  /** Tries anew what the store does not answer, for as long as a node that is gone is waited for. */
  async #withinBound<T>(work: () => Promise<T>): Promise<T> {
    const { lease, skew, monotonic } = this.#options
    for (const until = monotonic() + lease + skew; ;) {
      try {
        return await work()
      } catch (error) {
        if (!(error instanceof DeputyError && error.code === 'store_unavailable') || monotonic() > until) throw error
        await sleep(NAME_LOOK)
      }
    }
  }

  async record(write: WriteChange): Promise<Position> {
    const change = await this.#recordAbove(this.#highest, write)
    this.#written = [...this.#written, change]
    return change
  }

  /**
   * Another program may have set the count of the store back. Nodes that have applied a higher number would pass the change over,
   * and what they have proved of themselves would pass for its acknowledgement: it is written again above that number.
   */
  async #recordAbove(known: number, write: WriteChange): Promise<Position> {
    const change = await this.#withinBound(write)
    if (change.number > known) return change
    await this.#withinBound(() => this.#options.store.liftNumber(known))
    return this.#withinBound(write)
  }

  async confirm(change: Position, write: WriteChange): Promise<Confirmation> {
    const { store, incarnation, lease, skew, monotonic, acknowledgements } = this.#options
    const isProven = acknowledgements.isProven
    const began = monotonic()
    let awaited = change
    for (let pause = FIRST_LOOK; ; pause = Math.min(pause * 1.5, LAST_LOOK)) {
      const knowledge = await this.#withinBound(() =>
        store.whoKnows(awaited, { except: incarnation, lease, skew, isProven }),
      )
      const { acknowledged, waiting, expired, isLost, unsettled } = knowledge
      if (isLost) awaited = await this.record(write)
      else if (waiting.length === 0 && unsettled === 0)
        return { acknowledged: acknowledged.length, expired, milliseconds: Math.round(monotonic() - began) }
      await sleep(pause)
    }
  }

  catchUp(): Promise<void> {
    return this.#renewal()
  }

  status(): ReturnType<Membership['status']> {
    const held = this.#isHeld()
    const late = this.#problem === null ? 'The store did not answer: it confirmed no renewal in time.' : null
    return {
      node: this.#options.node,
      held,
      problem: held ? null : (this.#problem ?? 'its lease was not renewed in time'),
      store: this.#storeProblem ?? (held ? null : late),
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#until = NO_LEASE
    await this.#subscription?.close()
    await this.#running?.catch(() => undefined)
    await this.#options.store.leave(this.#options.incarnation).catch(() => undefined)
  }

  #schedule(): void {
    if (this.#closed) return
    this.#timer = setTimeout(() => {
      this.#subscription?.check()
      this.#renew()
      this.#schedule()
    }, this.#options.lease / 4)
    this.#timer.unref()
  }

  #renew(): void {
    if (this.#closed) return
    this.#renewal().catch((error: unknown) => {
      const problem = (error as Error).message
      if (this.#problem !== problem) this.#options.logger.warn({ err: error }, 'the lease was not renewed')
      this.#problem = problem
      if (error instanceof DeputyError && error.code === 'store_unavailable') this.#storeProblem = problem
    })
  }

  /** A renewal that begins after the call. One runs at a time: the store sees them in the order in which they were sent. */
  #renewal(): Promise<void> {
    this.#queued ??= (async () => {
      await this.#running?.catch(() => undefined)
      this.#queued = undefined
      this.#running = this.#lookThenRenew()
      await this.#running
    })()
    return this.#queued
  }

  async #lookThenRenew(): Promise<void> {
    const isTold = this.#isTold
    this.#isTold = false
    // What stands in the way of a look stands in the way of the renewal too, which says so.
    if (isTold) await this.#applyNews().catch(() => undefined)
    await this.#renewOnce()
  }

  /**
   * Applies what the store has told of, so that the renewal that follows acknowledges it: without that one renewal would
   * find it and another one acknowledge it. A store whose past is not this node's is left to the renewal.
   */
  async #applyNews(): Promise<void> {
    if (this.#closed || this.#applied === undefined || !this.#isHeld()) return
    const news = await this.#options.store.changesSince(this.#applied)
    if (news === undefined || news.server !== this.#server || news.last.token === this.#applied.token) return
    if (news.last.number < this.#applied.number) return
    await this.#options.apply(news)
    this.#hasApplied(news.last)
  }

  #hasApplied(position: Position): void {
    this.#applied = position
    this.#highest = Math.max(this.#highest, position.number)
  }

  /** @param keepsName whether the other rows of this name are judged */
  async #renewOnce(keepsName = false): Promise<void> {
    const { store, node, incarnation, acknowledgements, lease, skew, clock, monotonic } = this.#options
    const sent = { monotonic: monotonic(), wall: clock.now() }
    if (sent.wall - this.#answeredAt > ROW_REMEMBERED) this.#rowToken = undefined
    const applied = this.#applied
    const token = (this.#nextToken ??= this.#options.newToken())
    const renewal = await store.renew({
      id: incarnation,
      about: node,
      lease,
      skew,
      startedAt: this.#startedAt,
      applied,
      proof: applied === undefined ? null : acknowledgements.prove(incarnation, applied),
      written: this.#written,
      token,
      // What was sent before and not answered may have come, and has the same token.
      previous: this.#rowToken === undefined ? [] : [this.#rowToken, token],
      keepsName,
    })
    this.#storeProblem = null
    if (this.#closed) return
    if (renewal.outcome === 'name_shared') {
      const younger = this.#youngerOf(renewal.by)
      if (younger === undefined) return this.#renewOnce(true)
      this.#giveWay(younger)
      return
    }
    const isOtherServer = this.#server !== undefined && this.#server !== renewal.server
    if (renewal.outcome === 'foreign_past' || isOtherServer) {
      await this.#lookAgain(renewal)
      return this.#renewOnce()
    }
    if (this.#server === undefined) await this.#letOthersLook(renewal)
    const { last } = renewal
    if (applied !== undefined && last.number < applied.number) {
      const problem = `its last change has the number ${last.number}, and this node knows number ${applied.number}`
      await this.#lookAgain({ ...renewal, outcome: 'foreign_past', problem })
      return this.#renewOnce()
    }
    if (applied?.token !== last.token) {
      const changes = await store.changesSince(applied, last)
      if (changes === undefined) {
        const problem = `its last change, number ${last.number}, is not in its history`
        await this.#lookAgain({ ...renewal, outcome: 'foreign_past', problem })
        return this.#renewOnce()
      }
      // The server has changed in between: the next renewal finds out what that means.
      if (changes.server !== renewal.server) return this.#renewOnce()
      await this.#options.apply(changes)
      // It may have more by now.
      this.#hasApplied(changes.last)
    } else this.#hasApplied(last)
    this.#server = renewal.server
    this.#startedAt = renewal.startedAt
    this.#rowToken = token
    this.#nextToken = undefined
    this.#answeredAt = sent.wall
    this.#written = this.#written.filter(({ number }) => number > last.number)
    this.#takeLease(sent, renewal.now)
    // What was applied now is acknowledged at once.
    if (applied?.token !== last.token) this.#renew()
  }

  /**
   * A server that is new may have lost revocations that only other nodes know: they have written them again when this resolves. What
   * was committed meanwhile is acknowledged with the next renewal.
   */
  async #letOthersLook({ serverAge }: Renewal): Promise<void> {
    const wait = this.#options.lease / 2 - serverAge
    if (wait > 0) await sleep(wait)
  }

  #takeLease(sent: { monotonic: number; wall: number }, storeTime: number): void {
    const { lease, skew, clock } = this.#options
    if (this.#closed) return
    // The store's clock was read between the sending and now: outside of that by more than the skew, ours is wrong.
    const off = Math.max(sent.wall - storeTime, storeTime - clock.now())
    if (off > skew) {
      this.#problem = `its clock and the store's are ${Math.round(off)} ms apart, and ${skew} ms are allowed`
      return
    }
    this.#until = {
      monotonic: Math.max(this.#until.monotonic, sent.monotonic + lease - skew),
      wall: Math.max(this.#until.wall, sent.wall + lease - skew),
    }
    this.#problem = null
    this.#options.renewed?.()
  }

  /** What this node knows is written again where the store has lost it, and everything is read anew. */
  async #lookAgain(renewal: Exclude<Renewal, { outcome: 'name_shared' }>): Promise<void> {
    this.#until = NO_LEASE
    const problem = renewal.outcome === 'foreign_past' ? renewal.problem : undefined
    this.#problem =
      problem === undefined
        ? 'the server of the store is another process than before, and what it has is compared'
        : `the store has lost commits: ${problem}`
    const before = this.#written
    const since = renewal.now - renewal.serverAge - this.#options.skew
    await this.#options.lookAgain({ problem, last: renewal.last, since })
    await this.#letOthersLook(renewal)
    this.#applied = undefined
    this.#written = this.#written.filter((change) => !before.includes(change))
    this.#rowToken = undefined
    this.#nextToken = undefined
    this.#server = renewal.server
  }

  /** Both of two processes with one name come to the same answer: it depends on nothing but their ids. */
  #youngerOf(others: readonly string[]): string | undefined {
    const { node, incarnation, startOf, logger } = this.#options
    const mine = startOf(incarnation) ?? 0
    const forged = others.filter((id) => startOf(id) === undefined)
    if (forged.length > 0 && !this.#hasToldForged) {
      this.#hasToldForged = true
      logger.error(
        { node, rows: forged.slice(0, 10) },
        'rows of the table nodes have the name of this node and are not of this installation; they are passed over',
      )
    }
    return others.find((id) => {
      const start = startOf(id)
      return start !== undefined && (start > mine || (start === mine && id > incarnation))
    })
  }

  /** Two processes with one name would write one chain of audit records: the older one ends. */
  #giveWay(by: string): void {
    const { node, incarnation, logger, replaced } = this.#options
    this.#until = NO_LEASE
    this.#closed = true
    clearTimeout(this.#timer)
    const error = refuse('node_replaced', { node })
    this.#problem = error.message
    logger.error({ err: error, incarnation, by }, 'another daemon has the name of this node; this one ends')
    replaced(error)
  }
}
