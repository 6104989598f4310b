import { setTimeout as sleep } from 'node:timers/promises'
import { DeputyError, refuse } from '#errors'
import type { Position, Renewal, Subscription } from '#foundation/store'
import type { ClusterAcknowledgement, Membership, WriteChange } from './membership.ts'
import type { MembershipOptions } from './membership-options.ts'
import { type Moment, MembershipTerm } from './membership-term.ts'
import { awaitName, createNameJudge } from './node-name.ts'
import { WrittenChanges } from './written-changes.ts'

/** After this long without a renewal the store may have removed the node's row (ms): it is not missed then. */
const ROW_LIFETIME_MS = 12 * 3_600_000

type Granted = Extract<Renewal, { outcome: 'granted' }>

/**
 * The membership of one node in the cluster, as a lease of the shared store. The steps have the names of the model in `test/revocation/model.ts`:
 *
 * - renew: asks for a lease and for the last change, in one statement that a revocation cannot overlap;
 * - apply: applies all changes since the last one applied; when the store announces a change, before it renews;
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
  readonly #changes: WrittenChanges
  /** The token that the last answered renewal left in the node's row, and the one that is sent until a renewal is answered. */
  #rowToken: string | undefined
  #nextToken: string | undefined
  #startedAt: number | undefined
  #server: string | undefined
  readonly #term: MembershipTerm
  readonly #youngerOf: ReturnType<typeof createNameJudge>
  #answeredAt = -Infinity
  #problem: string | null = 'it is not a member of the cluster yet'
  #storeProblem: string | null = null
  /** Whether the store has announced a change since the last look at it. */
  #isAnnounced = false
  #running: Promise<void> | undefined
  #queued: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #subscription: Subscription | undefined
  #closed = false

  private constructor(options: MembershipOptions) {
    this.#options = options
    this.#changes = new WrittenChanges(options)
    this.#term = new MembershipTerm(options)
    this.#youngerOf = createNameJudge(options)
  }

  /** Is a member when it resolves. @throws DeputyError `store_unavailable`, `membership_lost` with a clock that is off, `start_failed` when another daemon has the name */
  static async start(options: MembershipOptions): Promise<ClusterMembership> {
    const membership = new ClusterMembership(options)
    await awaitName(options)
    try {
      await membership.#renewal()
      membership.assertHeld()
    } catch (error) {
      // The store may count a lease that this process has not taken: the next one of this name need not wait for its
      // end.
      await membership.close()
      throw error
    }
    membership.#subscription = await options.store.subscribe(() => {
      membership.#isAnnounced = true
      membership.#renew()
    })
    membership.#schedule()
    return membership
  }

  assertHeld(): void {
    if (this.#term.isHeld()) return
    throw refuse('membership_lost', {
      node: this.#options.node,
      problem: this.#problem ?? 'it was not renewed in time',
      seconds: 1,
    })
  }

  async epoch(): Promise<number> {
    return Math.max(await this.#options.store.now(), this.#options.clock.now()) + this.#options.skew
  }

  record(write: WriteChange): Promise<Position> {
    return this.#changes.record(write)
  }

  confirm(change: Position, write: WriteChange): Promise<ClusterAcknowledgement> {
    return this.#changes.confirm(change, write)
  }

  catchUp(): Promise<void> {
    return this.#renewal()
  }

  status(): ReturnType<Membership['status']> {
    const held = this.#term.isHeld()
    const late = this.#problem === null ? 'The store did not answer: it confirmed no renewal in time.' : null
    return {
      node: this.#options.node,
      held,
      problem: held ? null : (this.#problem ?? 'its membership was not renewed in time'),
      store: this.#storeProblem ?? (held ? null : late),
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#term.end()
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
      if (this.#problem !== problem) this.#options.logger.warn({ err: error }, 'the cluster membership was not renewed')
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
    const isAnnounced = this.#isAnnounced
    this.#isAnnounced = false
    // What stands in the way of a look stands in the way of the renewal too, which says so.
    if (isAnnounced) await this.#applyNews().catch(() => undefined)
    await this.#renewOnce()
  }

  /**
   * Applies the changes that the store has announced, so that the renewal that follows acknowledges them: otherwise one renewal
   * would find them and another one acknowledge them. A store whose past is not this node's is left to the renewal.
   */
  async #applyNews(): Promise<void> {
    if (this.#closed || this.#applied === undefined || !this.#term.isHeld()) return
    const news = await this.#options.store.changesSince(this.#applied)
    if (news === undefined || news.server !== this.#server || news.last.token === this.#applied.token) return
    if (news.last.number < this.#applied.number) return
    await this.#options.apply(news)
    this.#hasApplied(news.last)
  }

  #hasApplied(position: Position): void {
    this.#applied = position
    this.#changes.hasApplied(position)
  }

  /** One renewal, and what its answer asks for. @param keepsName whether the other rows of this name were judged */
  async #renewOnce(keepsName = false): Promise<void> {
    const sent = this.#term.now()
    if (sent.wall - this.#answeredAt > ROW_LIFETIME_MS) this.#rowToken = undefined
    const token = (this.#nextToken ??= this.#options.newToken())
    const applied = this.#applied
    const renewal = await this.#send(token, applied, keepsName)
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
    const found = await this.#applyUpTo(renewal, applied)
    if (found === 'other_server') return this.#renewOnce()
    if (found !== 'applied') {
      await this.#lookAgain({ ...renewal, outcome: 'foreign_past', problem: found.problem })
      return this.#renewOnce()
    }
    this.#granted(renewal, token, sent)
    // What was applied now is acknowledged at once.
    if (applied?.token !== renewal.last.token) this.#renew()
  }

  #send(token: string, applied: Position | undefined, keepsName: boolean): Promise<Renewal> {
    const { store, node, incarnation, acknowledgements, lease, skew } = this.#options
    return store.renew({
      id: incarnation,
      about: node,
      lease,
      skew,
      startedAt: this.#startedAt,
      applied,
      proof: applied === undefined ? null : acknowledgements.prove(incarnation, applied),
      written: this.#changes.unseen,
      token,
      // What was sent before and not answered may have come, and has the same token.
      previous: this.#rowToken === undefined ? [] : [this.#rowToken, token],
      keepsName,
    })
  }

  /** Applies the changes up to that of a renewal. @returns why the past of the store is not this node's, where it is not */
  async #applyUpTo(
    { last, server }: Granted,
    applied: Position | undefined,
  ): Promise<'applied' | 'other_server' | { readonly problem: string }> {
    if (applied !== undefined && last.number < applied.number)
      return { problem: `its last change has the number ${last.number}, and this node knows number ${applied.number}` }
    if (applied?.token === last.token) {
      this.#hasApplied(last)
      return 'applied'
    }
    const changes = await this.#options.store.changesSince(applied, last)
    if (changes === undefined) return { problem: `its last change, number ${last.number}, is not in its history` }
    // The server has changed in between: the next renewal finds out what that means.
    if (changes.server !== server) return 'other_server'
    await this.#options.apply(changes)
    // It may have more by now.
    this.#hasApplied(changes.last)
    return 'applied'
  }

  #granted(renewal: Granted, token: string, sent: Moment): void {
    this.#server = renewal.server
    this.#startedAt = renewal.startedAt
    this.#rowToken = token
    this.#nextToken = undefined
    this.#answeredAt = sent.wall
    this.#changes.seen(renewal.last)
    if (this.#closed) return
    this.#problem = this.#term.take(sent, renewal.now)
    if (this.#problem === null) this.#options.renewed?.()
  }

  /**
   * A server that is new may have lost revocations that only other nodes know: they have written them again when this resolves. What
   * was committed meanwhile is acknowledged with the next renewal.
   */
  async #letOthersLook({ serverAge }: Renewal): Promise<void> {
    const wait = this.#options.lease / 2 - serverAge
    if (wait > 0) await sleep(wait)
  }

  /** Writes again what the store has lost and this node knows, and reads everything anew. */
  async #lookAgain(renewal: Exclude<Renewal, { outcome: 'name_shared' }>): Promise<void> {
    this.#term.end()
    const problem = renewal.outcome === 'foreign_past' ? renewal.problem : undefined
    this.#problem =
      problem === undefined
        ? 'the server of the store is another process than before, and what it has is compared'
        : `the store has lost commits: ${problem}`
    const before = this.#changes.unseen
    const since = renewal.now - renewal.serverAge - this.#options.skew
    await this.#options.lookAgain({ problem, last: renewal.last, since })
    await this.#letOthersLook(renewal)
    this.#applied = undefined
    this.#changes.drop(before)
    this.#rowToken = undefined
    this.#nextToken = undefined
    this.#server = renewal.server
  }

  /** Two processes with one name would write one chain of audit records: the older one ends. */
  #giveWay(by: string): void {
    const { node, incarnation, logger, replaced } = this.#options
    this.#term.end()
    this.#closed = true
    clearTimeout(this.#timer)
    const error = refuse('node_replaced', { node })
    this.#problem = error.message
    logger.error({ err: error, incarnation, by }, 'another daemon has the name of this node; this one ends')
    replaced(error)
  }
}
