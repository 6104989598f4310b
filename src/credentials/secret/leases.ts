import { setTimeout as sleep } from 'node:timers/promises'
import { randomText } from '#foundation/crypto'
import type { Lease, LeaseFilter, LeaseOwner } from '#foundation/store'
import type { LeaseSource, MadeSecret } from './backend.ts'
import { CLAIM_MS, isConflict, isOver, LeaseCare, marginOf, type LeaseCareOptions } from './lease-care.ts'
import { type LeasedSecret, LeaseMaking, stillBeingMade } from './lease-making.ts'

/** How long a caller waits for a credential that is being made, by its own request or another's (ms), and how often it looks. */
const PATIENCE_MS = 12_000
const LOOK_MS = 50
const TICK_MS = 1000
/** Leases that are renewed or ended at the same time. */
const AT_ONCE = 16
const BATCH = 1000

/** The outcome of ending a lease at its backend: `queued` until the backend answers; `failed` where its credential, which the end needs, can no longer be read. */
export interface LeaseReceipt extends LeaseOwner {
  readonly lease: string
  readonly upstream: 'done' | 'queued' | 'failed'
}

export interface LeasesOptions extends LeaseCareOptions {
  /** Whether a revocation covers it. */
  readonly isVoid: (lease: Lease) => boolean
  /** Whether the configuration still allows it. */
  readonly isWanted: (lease: Lease) => boolean
  /** Called with leases that their backend has ended: cached copies of their credentials are void. */
  readonly lost?: (leases: ReadonlySet<string>) => void
  /** How long a caller waits (ms); default 12 s. */
  readonly patience?: number
}

/** What a lease gives: a role of a backend, for one owner. */
type LeaseRequestKey = LeaseOwner & Pick<Lease, 'backend' | 'role'>

/** Runs work on many items, a few at a time. */
const each = async <T>(items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> => {
  const waiting = [...items]
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (let item = waiting.shift(); item !== undefined; item = waiting.shift()) await work(item)
    }),
  )
}

/** Whether a lease lacks the parent with which it ends: one of an earlier version of Deputy. */
const isOrphan = (lease: Lease, source: LeaseSource | undefined): boolean =>
  source?.hasParents === true && lease.parent === null

/**
 * Credentials that are made for one owner, each under a lease. The note that one is being made is durable before any backend
 * is asked, so that an owner has one lease for each role, whichever node makes it. A lease is renewed while it is used, ended
 * when what it depends on ends, and removed when the backend has ended it.
 */
export class Leases {
  readonly #options: LeasesOptions
  readonly #care: LeaseCare
  readonly #making: LeaseMaking
  #timer: NodeJS.Timeout | undefined
  #ticking: Promise<void> | undefined

  constructor(options: LeasesOptions) {
    this.#options = options
    this.#care = new LeaseCare(options)
    this.#making = new LeaseMaking({ ...options, care: this.#care })
  }

  /** @param make called where there is no lease. @throws DeputyError of the category secret, and what `make` throws */
  async obtain(
    owner: LeaseOwner,
    { backend, role }: { backend: string; role: string },
    make: () => Promise<MadeSecret>,
  ): Promise<LeasedSecret> {
    const { store, patience = PATIENCE_MS } = this.#options
    const key = { ...owner, backend, role }
    for (const until = performance.now() + patience; performance.now() < until;) {
      const found = await store.find(key)
      if (found !== undefined && found.state !== 'making') {
        if (await this.#isUsable(found)) return await this.#making.handOut(found)
        continue
      }
      const note = found === undefined ? await this.#beginNote(key) : await this.#takeOverNote(found)
      if (note !== undefined) return await this.#making.make(note, make, until - performance.now())
    }
    throw stillBeingMade(backend)
  }

  /**
   * Ends each lease that any of the filters covers. When it resolves, no caller gets one of them.
   * @param keyEnds the tenant's key is about to be destroyed: a lease that ends by its credential is ended now or never
   */
  async end(filters: readonly LeaseFilter[], keyEnds = false): Promise<LeaseReceipt[]> {
    const { store } = this.#options
    const receipts: LeaseReceipt[] = []
    const covered = (await Promise.all(filters.map((filter) => store.list(filter)))).flat()
    await each(covered, async (lease) => {
      const receipt = await this.#endOne(lease, keyEnds)
      if (receipt !== undefined) receipts.push(receipt)
    })
    return receipts
  }

  /** The parent of leases has ended, and they with it: no caller gets them any more. @param parent see `Lease.parent` */
  async lose(parent: string): Promise<void> {
    const { store, clock, logger, lost } = this.#options
    const ended = (await store.list({ parent })).filter(({ state }) => !isOver(state))
    await each(ended, (lease) => this.#care.abandon(lease, clock.now()))
    lost?.(new Set(ended.map(({ id }) => id)))
    if (ended.length > 0)
      logger.warn({ parent, leases: ended.length }, 'a token was ended at its backend, and the leases under it with it')
  }

  /** Notes that a lease is in use without a new request. @returns whether it continues */
  async touch(lease: string): Promise<boolean> {
    const { store, clock } = this.#options
    await store.touch(lease, clock.now())
    return (await store.list({ id: lease, state: 'active' })).length > 0
  }

  list(filter: LeaseFilter): Promise<Lease[]> {
    return this.#options.store.list(filter)
  }

  /** Abandons leases that a revocation covers, or that the configuration does not allow any more. @returns how many */
  async sweep(): Promise<number> {
    const { store, clock, isVoid, isWanted } = this.#options
    const now = clock.now()
    const unwanted = (await store.list({})).filter(
      (lease) => lease.state === 'active' && (isVoid(lease) || !isWanted(lease)),
    )
    for (const lease of unwanted) await this.#care.abandon(lease, now)
    return unwanted.length
  }

  /** Starts the care of leases. */
  start(): void {
    this.#timer = setInterval(() => {
      this.#ticking ??= this.tick()
        .catch((error: unknown) => {
          this.#options.logger.warn({ err: error }, 'care of leases failed; retrying in a second')
        })
        .finally(() => {
          this.#ticking = undefined
        })
    }, TICK_MS)
    this.#timer.unref()
  }

  /** One round of care: renews and ends the leases that are due. */
  async tick(): Promise<void> {
    const { store, clock } = this.#options
    await each(await store.due(clock.now(), BATCH), (lease) => this.#care.attend(lease))
  }

  async close(): Promise<void> {
    clearInterval(this.#timer)
    await this.#ticking
    await this.#making.close()
  }

  /** Whether a lease can be handed out; one that cannot is abandoned. */
  async #isUsable(lease: Lease): Promise<boolean> {
    const { clock, isVoid, backendOf } = this.#options
    const now = clock.now()
    if (isVoid(lease)) {
      await this.#care.abandon(lease, now)
      return false
    }
    // A lease of an earlier version: when it ends is not known.
    if (isOrphan(lease, backendOf(lease.backend))) {
      await this.#care.abandon(lease, lease.expiresAt)
      return false
    }
    if (lease.expiresAt - now > marginOf(lease)) return true
    if (!(await this.#care.canContinue(lease))) await this.#care.abandon(lease, lease.expiresAt)
    return false
  }

  /** @returns undefined where a concurrent request has begun one */
  async #beginNote(key: LeaseRequestKey): Promise<Lease | undefined> {
    const { store, clock, random } = this.#options
    const now = clock.now()
    const note: Lease = {
      ...key,
      id: randomText(random, 12),
      state: 'making',
      external: null,
      sealed: null,
      duration: 0,
      createdAt: now,
      renewedAt: now,
      usedAt: now,
      expiresAt: now + CLAIM_MS,
      nextAt: now + CLAIM_MS * 2,
      attempts: 0,
      problem: null,
      revision: 0,
      parent: null,
    }
    return (await store.begin(note)) ? note : undefined
  }

  /** Waits for the credential that another request makes, or takes its note over when its claim has ended. @returns undefined where it has not */
  async #takeOverNote(found: Lease): Promise<Lease | undefined> {
    const { store, clock } = this.#options
    const now = clock.now()
    if (found.expiresAt > now) {
      await sleep(LOOK_MS)
      return undefined
    }
    return store
      .update({ ...found, createdAt: now, expiresAt: now + CLAIM_MS, nextAt: now + CLAIM_MS * 2 })
      .catch((error: unknown) => {
        if (isConflict(error)) return undefined
        throw error
      })
  }

  /** @returns undefined where the lease was ended already */
  async #endOne(lease: Lease, keyEnds: boolean): Promise<LeaseReceipt | undefined> {
    const { store, clock, backendOf } = this.#options
    // A lease that waits for its end cannot wait for longer than the key.
    const endsWithKey = keyEnds && backendOf(lease.backend)?.endsByCredential === true
    const abandoned =
      endsWithKey && isOver(lease.state) ? lease : await this.#care.abandon(lease, clock.now() + CLAIM_MS)
    if (abandoned === undefined) return undefined
    const { id, tenant, user, server, downstream } = abandoned
    const upstream = await this.#care.end(abandoned)
    const isLost = endsWithKey && upstream === 'queued'
    if (isLost) await store.remove(id)
    return { lease: id, tenant, user, server, downstream, upstream: isLost ? 'failed' : upstream }
  }
}
