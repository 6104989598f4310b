import type { Clock } from '../clock.ts'
import { refuse, type DeputyError } from '../errors.ts'
import type { Logger } from '../observe/logger.ts'
import type { ClusterStore, StandingChanges } from '../store/records/revocations.ts'

/** Whether this node may hand out anything, and whether the others know what this one has revoked (promise 4). */
export interface Membership {
  /** @throws DeputyError `lease_lost` when it is not sure that this node knows every revocation */
  assertHeld(): void
  /** A moment that no node's clock has reached by more than the allowed skew (ms since the epoch). */
  epoch(): Promise<number>
  /**
   * Resolves when every other node has applied what was written under this number, or its lease has surely ended.
   * @returns who was waited for
   */
  confirm(number: number): Promise<Confirmation>
  /** Resolves when this node knows every change that was committed before it was called. @throws DeputyError `store_unavailable` */
  catchUp(): Promise<void>
  status(): { node: string; held: boolean; problem: string | null }
  close(): Promise<void>
}

export interface Confirmation {
  readonly acknowledged: number
  readonly expired: readonly string[]
  readonly milliseconds: number
}

/** The one node of an embedded store: nobody else can know less than it does. */
export const onlyNode = (node: string, clock: Clock): Membership => ({
  assertHeld() {},
  epoch: () => Promise.resolve(clock.now()),
  confirm: () => Promise.resolve({ acknowledged: 0, expired: [], milliseconds: 0 }),
  catchUp: () => Promise.resolve(),
  status: () => ({ node, held: true, problem: null }),
  close: () => Promise.resolve(),
})

export interface LeaseOptions {
  readonly store: ClusterStore
  readonly node: string
  /** Tells this process from the one before it and from one that was given the same name by mistake. */
  readonly incarnation: string
  /** ms. */
  readonly lease: number
  /** ms by which clocks may differ, in time and in what they count as one lease. */
  readonly skew: number
  /** Takes the changes over: after it has returned this node hands out nothing that they cover. */
  readonly apply: (changes: StandingChanges) => void
  /** Called after each renewal: the store has answered. */
  readonly renewed?: () => void
  readonly clock: Clock
  /** Never goes back, and goes on while the process is stopped (ms). */
  readonly monotonic: () => number
  readonly logger: Logger
}

/** The first pause between two looks at the nodes that have not acknowledged (ms); it grows by half up to the second. */
const [FIRST_LOOK, LAST_LOOK] = [2, 10]

/** The pause between two looks at who else has this node's name (ms). */
const NAME_LOOK = 50

/**
 * A lease of the shared store. The steps have the names of the model in `test/revocation/model.ts`:
 *
 * - renew: asks for a lease and for all changes since those applied, in one transaction that a revocation cannot overlap;
 * - apply: takes the changes over;
 * - acknowledge: the next renewal says up to which change this node has applied, never more;
 * - serve: only before the lease ends, counted from before the renewal was sent, less the skew;
 * - confirm: whoever revokes waits for each node's acknowledgement or the end of its lease by the store's clock, and the skew.
 */
export class NodeLease implements Membership {
  readonly #options: LeaseOptions
  #applied = 0
  /** End of the lease by the monotonic clock, and by the wall clock for machines that slept in between. */
  #until = { monotonic: -Infinity, wall: -Infinity }
  #problem: string | null = 'it has no lease yet'
  #renewing: Promise<void> | undefined
  #again = false
  #timer: NodeJS.Timeout | undefined
  #unsubscribe: (() => Promise<void>) | undefined
  #closed = false

  private constructor(options: LeaseOptions) {
    this.#options = options
  }

  /** Has a lease when it resolves. @throws DeputyError `store_unavailable`, `lease_lost` with a clock that is off, `start_failed` when another daemon has the name */
  static async start(options: LeaseOptions): Promise<NodeLease> {
    const lease = new NodeLease(options)
    await lease.#awaitName()
    await lease.#renewOnce()
    lease.assertHeld()
    // Of two that began at the same moment one stays.
    const twin = (await lease.#twins()).find(({ id }) => id < options.incarnation)
    if (twin !== undefined) {
      await lease.close()
      throw lease.#nameTaken()
    }
    lease.#unsubscribe = await options.store.subscribe(() => {
      lease.#renew()
    })
    lease.#schedule()
    return lease
  }

  async #twins(): Promise<readonly { readonly id: string }[]> {
    const { store, node, incarnation, skew } = this.#options
    return (await store.nodes()).filter(
      ({ id, about, leaseLeft }) => about === node && id !== incarnation && leaseLeft + skew > 0,
    )
  }

  #nameTaken(): DeputyError {
    return refuse('start_failed', {
      problem: `another daemon runs as the node ${this.#options.node} on this store`,
      fix: 'Give each daemon a name of its own under `node` in deputy.yaml, or stop the other one.',
    })
  }

  /** The lease of a process before this one may still run when that was killed; one that is renewed is somebody else's. */
  async #awaitName(): Promise<void> {
    const { lease, skew, monotonic } = this.#options
    for (const until = monotonic() + lease + 2 * skew; (await this.#twins()).length > 0;) {
      if (monotonic() > until) throw this.#nameTaken()
      await new Promise((resolve) => {
        setTimeout(resolve, NAME_LOOK)
      })
    }
  }

  assertHeld(): void {
    const { monotonic, clock, node } = this.#options
    if (monotonic() < this.#until.monotonic && clock.now() < this.#until.wall) return
    throw refuse('lease_lost', { node, problem: this.#problem ?? 'it was not renewed in time', seconds: 1 })
  }

  async epoch(): Promise<number> {
    return Math.max(await this.#options.store.now(), this.#options.clock.now()) + this.#options.skew
  }

  async confirm(number: number): Promise<Confirmation> {
    const { store, incarnation, skew, monotonic } = this.#options
    const began = monotonic()
    for (let pause = FIRST_LOOK; ; pause = Math.min(pause * 1.5, LAST_LOOK)) {
      const { acknowledged, waiting, expired } = await store.whoKnows(number, { except: incarnation, skew })
      if (waiting.length === 0)
        return { acknowledged: acknowledged.length, expired, milliseconds: Math.round(monotonic() - began) }
      await new Promise((resolve) => {
        setTimeout(resolve, pause)
      })
    }
  }

  catchUp(): Promise<void> {
    return this.#renewOnce()
  }

  status(): { node: string; held: boolean; problem: string | null } {
    const { monotonic, clock, node } = this.#options
    const held = monotonic() < this.#until.monotonic && clock.now() < this.#until.wall
    return { node, held, problem: held ? null : (this.#problem ?? 'its lease was not renewed in time') }
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    this.#until = { monotonic: -Infinity, wall: -Infinity }
    await this.#unsubscribe?.()
    await this.#renewing?.catch(() => undefined)
    await this.#options.store.leave(this.#options.incarnation).catch(() => undefined)
  }

  #schedule(): void {
    if (this.#closed) return
    this.#timer = setTimeout(() => {
      this.#renew()
      this.#schedule()
    }, this.#options.lease / 4)
    this.#timer.unref()
  }

  /** One renewal at a time; what was asked for meanwhile is one more. */
  #renew(): void {
    if (this.#closed) return
    if (this.#renewing !== undefined) {
      this.#again = true
      return
    }
    this.#renewing = this.#renewOnce()
      .catch((error: unknown) => {
        const problem = (error as Error).message
        if (this.#problem !== problem) this.#options.logger.warn({ err: error }, 'the lease was not renewed')
        this.#problem = problem
      })
      .finally(() => {
        this.#renewing = undefined
        if (this.#again) {
          this.#again = false
          this.#renew()
        }
      })
  }

  async #renewOnce(): Promise<void> {
    const { store, node, incarnation, lease, skew, clock, monotonic, apply } = this.#options
    const sent = { monotonic: monotonic(), wall: clock.now() }
    const acknowledged = this.#applied
    const { number, changes, now } = await store.renew({ id: incarnation, about: node, lease, acknowledged })
    if (changes !== undefined) apply(changes)
    // Two renewals may answer in either order: what is known is never forgotten.
    this.#applied = Math.max(this.#applied, number)
    if (this.#closed) return
    // The store's clock was read between the sending and now: outside of that by more than the skew, ours is wrong.
    const off = Math.max(sent.wall - now, now - clock.now())
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
    if (acknowledged < number) this.#again = true
  }
}
