import type { Clock } from '#clock'
import type { Secret } from '#foundation/crypto'
import type { Logger } from '#foundation/telemetry'
import type { LeaseParent } from '../backend.ts'
import type { SendToVault, VaultAnswer, VaultRequest } from './client.ts'
import type { StoredTokens } from './stored-tokens.ts'
import type { VaultToken } from './login.ts'
import { isTokenDead, pauseAfter, renewToken, revokeToken } from './token-life.ts'

/** A token that the session uses. Times are monotonic (ms). */
interface TokenInUse {
  readonly token: Secret
  readonly accessor: string
  /** How long it was given for at first (ms); Infinity: it does not end. */
  readonly given: number
  until: number
  /** A renewal adds no time. */
  isFinal: boolean
  /** When Vault last accepted it. */
  provenAt: number
  /** Leases may be under it. */
  isStored: boolean
  looking?: Promise<boolean>
}

/** Renewed when this part of its life is over. */
const RENEWED_AFTER = 2 / 3
/** Replaced when it cannot be renewed and at most this part of its life is left. */
const REPLACED_AT = 1 / 3
/** The shortest wait before a renewal (ms): Vault may issue tokens that live for one second. */
const MIN_RENEWAL_MS = 250
/** After Vault accepted a token, a refusal within this time (ms) concerns the path. */
const TRUSTED_MS = 1000
/** The longest wait that a timer takes (ms). */
const MAX_TIMER_MS = 2 ** 31 - 1
/** Time limit for ending the token at the end of the process (ms). */
const FAREWELL_MS = 1000
/** How often the session looks for tokens of other processes that need a renewal (ms). */
const LOOK_MS = 1000

/** Requests to Vault under the login of the settings. */
export interface VaultSession {
  /** @throws DeputyError `secret_backend_unavailable`, `secret_backend_refused` (the login), `wrapping_violated` */
  ask(request: VaultRequest): Promise<VaultAnswer>
  /** As `ask`, for a request that creates a lease. @returns the answer, and the token with which the lease ends */
  askForLease(request: VaultRequest): Promise<{ readonly answer: VaultAnswer; readonly parent: LeaseParent }>
  /** Until when the token of this name lives at least (ms since the epoch); 0 for one that has ended. */
  endOf(parent: string): Promise<number>
  close(): Promise<void>
}

/** Parent of the leases of a batch token, which has no accessor: Vault caps those leases truthfully (https://developer.hashicorp.com/vault/docs/concepts/tokens#batch-tokens). */
const BATCH = 'batch'

export interface VaultSessionOptions {
  /** Of the backend. */
  readonly id: string
  readonly logIn: () => Promise<VaultToken>
  /** Whether the settings name the token itself: the session does not end it, and has no other. */
  readonly isGiven: boolean
  readonly send: SendToVault
  /** ms, never going back. */
  readonly monotonic: () => number
  readonly clock: Clock
  readonly logger: Logger
  /** Where tokens that leases are under outlive the process; undefined where there are no leases. */
  readonly stored?: StoredTokens | undefined
}

/**
 * Logs in when a token is needed, renews it before it ends, retries with growing pauses while a renewal fails, and logs in
 * again when a renewal adds no time or the token has ended (https://developer.hashicorp.com/vault/docs/concepts/tokens).
 * A refused path costs no token. Requests share one login.
 */
export const createVaultSession = (options: VaultSessionOptions): VaultSession => new TokenSession(options)

class TokenSession implements VaultSession {
  readonly #options: VaultSessionOptions
  #inUse: Promise<TokenInUse> | undefined
  #replacing = false
  #closed = false
  #renewal: NodeJS.Timeout | undefined
  readonly #looking: NodeJS.Timeout | undefined

  constructor(options: VaultSessionOptions) {
    this.#options = options
    const { stored } = options
    if (stored === undefined) return
    this.#looking = setInterval(() => {
      void (async () => stored.look((await this.#known())?.accessor))()
    }, LOOK_MS)
    this.#looking.unref()
  }

  async ask(request: VaultRequest): Promise<VaultAnswer> {
    return (await this.#withToken(request, () => Promise.resolve())).answer
  }

  async askForLease(request: VaultRequest): Promise<{ readonly answer: VaultAnswer; readonly parent: LeaseParent }> {
    const { answer, using } = await this.#withToken(request, (token) => this.#store(token))
    const name = using.accessor === '' ? BATCH : using.accessor
    return { answer, parent: { name, endsAt: this.#endsAt(using) } }
  }

  async endOf(parent: string): Promise<number> {
    if (parent === BATCH) return Infinity
    const using = await this.#known()
    if (using?.accessor === parent) return this.#endsAt(using)
    return (await this.#options.stored?.endOf(parent)) ?? 0
  }

  async close(): Promise<void> {
    const { id, isGiven, send, monotonic, logger } = this.#options
    this.#closed = true
    clearTimeout(this.#renewal)
    clearInterval(this.#looking)
    const using = await this.#known()
    // A token with no lease under it has no further use.
    if (using !== undefined && !using.isStored && !isGiven && using.until > monotonic())
      await revokeToken(send, using.token, FAREWELL_MS).catch((error: unknown) => {
        logger.debug(
          { backend: id, problem: (error as Error).message },
          'a Vault token was not ended; it expires by itself',
        )
      })
  }

  /** Sends with the token in use, and once more with another where that one turns out to have ended. */
  async #withToken(request: VaultRequest, prepare: (token: TokenInUse) => Promise<void>) {
    const { send } = this.#options
    const using = await this.#current()
    await prepare(using)
    const answer = await send(request, using.token)
    if (answer.status !== 403 || !(await this.#isDead(using))) return { answer, using }
    const next = await this.#current()
    await prepare(next)
    return { answer: await send(request, next.token), using: next }
  }

  /** The token to use: a login where there is none, a replacement in the background where it is about to end. */
  async #current(): Promise<TokenInUse> {
    const found = await (this.#inUse ?? this.#begin())
    const left = found.until - this.#options.monotonic()
    if (left <= 0) {
      if (await this.#isCurrent(found)) this.#inUse = undefined
      return this.#inUse ?? this.#begin()
    }
    if (found.isFinal && !this.#options.isGiven && left < found.given * REPLACED_AT) this.#replace(found)
    return found
  }

  #begin(): Promise<TokenInUse> {
    const pending = this.#logIn()
    this.#inUse = pending
    // A login that failed is not remembered.
    pending.catch(() => {
      if (this.#inUse === pending) this.#inUse = undefined
    })
    return pending
  }

  async #logIn(): Promise<TokenInUse> {
    const { monotonic } = this.#options
    const began = monotonic()
    const { token, accessor, ttl, renewable } = await this.#options.logIn()
    const given = ttl === 0 ? Infinity : ttl * 1000
    const using: TokenInUse = {
      token,
      accessor,
      given,
      until: began + given,
      isFinal: !renewable,
      provenAt: monotonic(),
      isStored: false,
    }
    this.#planRenewal(using, 0)
    return using
  }

  /** Obtains another token while requests still use this one. */
  #replace(token: TokenInUse): void {
    if (this.#replacing || this.#closed) return
    this.#replacing = true
    void this.#logIn()
      .then(async (next) => {
        if (await this.#isCurrent(token)) this.#inUse = Promise.resolve(next)
      })
      .catch((error: unknown) => {
        this.#options.logger.warn(
          { backend: this.#options.id, problem: (error as Error).message },
          'replacement of a Vault token that is about to end failed; retrying',
        )
      })
      .finally(() => {
        this.#replacing = false
      })
  }

  #planRenewal(token: TokenInUse, attempt: number): void {
    clearTimeout(this.#renewal)
    const left = token.until - this.#options.monotonic()
    if (this.#closed || token.isFinal || left === Infinity || left <= 0) return
    // The nearer the end, the shorter the pause.
    const wait = attempt === 0 ? left * RENEWED_AFTER : Math.min(pauseAfter(attempt), left / 2)
    this.#renewal = setTimeout(
      () => void this.#renew(token, attempt),
      Math.min(MAX_TIMER_MS, Math.max(MIN_RENEWAL_MS, wait)),
    )
    this.#renewal.unref()
  }

  async #renew(token: TokenInUse, attempt: number): Promise<void> {
    const { id, send, monotonic, logger, stored } = this.#options
    if (this.#closed || !(await this.#isCurrent(token))) return
    try {
      const began = monotonic()
      const renewal = await renewToken(id, send, token.token)
      if (renewal === 'dead') {
        await this.#ended(token)
        return
      }
      if (renewal === 'denied') token.isFinal = true
      else {
        token.until = Math.max(token.until, began + renewal.duration)
        token.isFinal = !renewal.renewable || renewal.duration < token.given - MIN_RENEWAL_MS
        token.provenAt = began
      }
      if (token.isStored) await stored?.extend(token.accessor, this.#endsAt(token))
      this.#planRenewal(token, 0)
    } catch (error) {
      const fields = { backend: id, problem: (error as Error).message, attempts: attempt + 1 }
      if (attempt === 0) logger.warn(fields, 'renewal of a Vault token failed; retrying until it ends')
      else logger.debug(fields, 'renewal of a Vault token failed')
      this.#planRenewal(token, attempt + 1)
    }
  }

  /** Vault does not know the token any more, nor any lease that was under it. */
  async #ended(token: TokenInUse): Promise<void> {
    if (await this.#isCurrent(token)) {
      this.#inUse = undefined
      clearTimeout(this.#renewal)
    }
    if (token.isStored) await this.#options.stored?.ended(token.accessor)
  }

  /** Whether the token has ended; requests share one look. @throws DeputyError `secret_backend_unavailable` where Vault does not say */
  #isDead(token: TokenInUse): Promise<boolean> {
    const { send, monotonic } = this.#options
    if (monotonic() - token.provenAt < TRUSTED_MS) return Promise.resolve(false)
    return (token.looking ??= (async () => {
      const isOver = await isTokenDead(send, token.token)
      if (isOver) await this.#ended(token)
      else token.provenAt = monotonic()
      return isOver
    })().finally(() => {
      delete token.looking
    }))
  }

  /** Stores the token before a lease is made under it: the lease outlives this process. */
  async #store(token: TokenInUse): Promise<void> {
    const { stored, isGiven } = this.#options
    if (token.isStored || token.accessor === '' || token.until === Infinity) return
    await stored?.add({
      accessor: token.accessor,
      token: isGiven ? undefined : token.token,
      endsAt: this.#endsAt(token),
    })
    token.isStored = stored !== undefined
  }

  /** The token in use; undefined where there is none, or the login has failed. */
  async #known(): Promise<TokenInUse | undefined> {
    return this.#inUse?.catch(() => undefined)
  }

  async #isCurrent(token: TokenInUse): Promise<boolean> {
    return (await this.#known()) === token
  }

  /** ms since the epoch. */
  #endsAt({ until }: TokenInUse): number {
    return this.#options.clock.now() + (until - this.#options.monotonic())
  }
}
