import type { Clock } from '#clock'
import type { Secret } from '#foundation/crypto'
import type { Logger } from '#foundation/telemetry'
import type { LeaseParent } from '../backend.ts'
import type { SendToVault, VaultAnswer, VaultRequest } from './client.ts'
import type { StoredTokens } from './stored-tokens.ts'
import type { VaultToken } from './login.ts'
import { isTokenDead, pauseAfter, renewToken, revokeToken } from './token-life.ts'

/** A token in use. Times never go back (ms). */
interface TokenInUse {
  readonly token: Secret
  readonly accessor: string
  /** How long it was given for at first (ms); Infinity: it does not end. */
  readonly given: number
  until: number
  /** A renewal gives it nothing more. */
  isFinal: boolean
  /** Vault has known it then. */
  provenAt: number
  /** Leases may be under it. */
  isStored: boolean
  looking?: Promise<boolean>
}

/** Renewed when this part of its life is over. */
const RENEWED_AFTER = 2 / 3
/** Replaced when it cannot be renewed and no more than this part of its life is left. */
const REPLACED_AT = 1 / 3
/** Sooner than this there is no renewal (ms): Vault could be handing out lives of a second. */
const SHORTEST_MS = 250
/** Vault has known it so recently (ms) that a refusal is about the path. */
const TRUSTED_MS = 1000
/** The longest wait that a timer takes (ms). */
const LONGEST_MS = 2 ** 31 - 1
/** At the end of the process the token is ended within (ms). */
const FAREWELL_MS = 1000
/** How often it looks whether tokens of other processes are to be renewed (ms). */
const LOOK_MS = 1000

/** Requests to Vault as the one that the settings say Deputy is. */
export interface VaultSession {
  /** @throws DeputyError `secret_backend_unavailable`, `secret_backend_refused` (the login), `wrapping_violated` */
  ask(request: VaultRequest): Promise<VaultAnswer>
  /** As `ask`, for what makes a lease. @returns the token that the lease ends with, too */
  askForLease(request: VaultRequest): Promise<{ readonly answer: VaultAnswer; readonly parent: LeaseParent }>
  /** Until when the token of this name lives at least (ms since the epoch); 0 for one that has ended. */
  endOf(parent: string): Promise<number>
  close(): Promise<void>
}

/** What a batch token's leases have instead of a token of their own: Vault caps them truthfully (https://developer.hashicorp.com/vault/docs/concepts/tokens#batch-tokens). */
const BATCH = 'batch'

/**
 * Logs in when a token is needed, renews it before it ends, tries again with growing pauses while a renewal fails, and logs in
 * anew when nothing more is to be had or the token has ended (https://developer.hashicorp.com/vault/docs/concepts/tokens).
 * A refused path costs no token. Requests share one login.
 */
export const createVaultSession = (options: {
  id: string
  logIn: () => Promise<VaultToken>
  /** Whether the settings name the token itself: it is not ended here, and there is no other. */
  isGiven: boolean
  send: SendToVault
  /** ms, never going back. */
  monotonic: () => number
  clock: Clock
  logger: Logger
  /** Where tokens that leases are under outlive the process; undefined where there are no leases. */
  stored?: StoredTokens | undefined
}): VaultSession => {
  const { id, send, logger, monotonic, stored, isGiven } = options
  let inUse: Promise<TokenInUse> | undefined
  let replacing = false
  let timer: NodeJS.Timeout | undefined
  let closed = false

  const isCurrent = async (which: TokenInUse): Promise<boolean> => (await inUse?.catch(() => undefined)) === which
  const endsAt = ({ until }: TokenInUse): number => options.clock.now() + (until - monotonic())

  const planRenewal = (which: TokenInUse, attempt: number): void => {
    clearTimeout(timer)
    const left = which.until - monotonic()
    if (closed || which.isFinal || left === Infinity || left <= 0) return
    // The nearer the end, the shorter the pause.
    const wait = attempt === 0 ? left * RENEWED_AFTER : Math.min(pauseAfter(attempt), left / 2)
    timer = setTimeout(() => void renew(which, attempt), Math.min(LONGEST_MS, Math.max(SHORTEST_MS, wait)))
    timer.unref()
  }

  const renew = async (which: TokenInUse, attempt: number): Promise<void> => {
    if (closed || !(await isCurrent(which))) return
    try {
      const began = monotonic()
      const renewal = await renewToken(id, send, which.token)
      if (renewal === 'dead') {
        await ended(which)
        return
      }
      if (renewal === 'denied') which.isFinal = true
      else {
        which.until = Math.max(which.until, began + renewal.duration)
        which.isFinal = !renewal.renewable || renewal.duration < which.given - SHORTEST_MS
        which.provenAt = began
      }
      if (which.isStored) await stored?.extend(which.accessor, endsAt(which))
      planRenewal(which, 0)
    } catch (error) {
      const problem = (error as Error).message
      const fields = { backend: id, problem, attempts: attempt + 1 }
      if (attempt === 0) logger.warn(fields, 'a token of Vault could not be renewed; it is tried again until it ends')
      else logger.debug(fields, 'a token of Vault could not be renewed')
      planRenewal(which, attempt + 1)
    }
  }

  const logIn = async (): Promise<TokenInUse> => {
    const began = monotonic()
    const { token, accessor, ttl, renewable } = await options.logIn()
    const given = ttl === 0 ? Infinity : ttl * 1000
    const which: TokenInUse = {
      token,
      accessor,
      given,
      until: began + given,
      isFinal: !renewable,
      provenAt: monotonic(),
      isStored: false,
    }
    planRenewal(which, 0)
    return which
  }

  const begin = (): Promise<TokenInUse> => {
    const pending = logIn()
    inUse = pending
    // A login that failed is not remembered.
    pending.catch(() => {
      if (inUse === pending) inUse = undefined
    })
    return pending
  }

  /** Another token takes its place, beside the requests that still use this one. */
  const replace = (which: TokenInUse): void => {
    if (replacing || closed) return
    replacing = true
    void logIn()
      .then(async (next) => {
        if (await isCurrent(which)) inUse = Promise.resolve(next)
      })
      .catch((error: unknown) => {
        logger.warn(
          { backend: id, problem: (error as Error).message },
          'a token of Vault that is about to end could not be replaced; it is tried again',
        )
      })
      .finally(() => {
        replacing = false
      })
  }

  const current = async (): Promise<TokenInUse> => {
    const found = await (inUse ?? begin())
    const left = found.until - monotonic()
    if (left <= 0) {
      if (await isCurrent(found)) inUse = undefined
      return inUse ?? begin()
    }
    if (found.isFinal && !isGiven && left < found.given * REPLACED_AT) replace(found)
    return found
  }

  /** Vault does not know it any more, and so nothing that was under it. */
  const ended = async (which: TokenInUse): Promise<void> => {
    if (await isCurrent(which)) {
      inUse = undefined
      clearTimeout(timer)
    }
    if (which.isStored) await stored?.ended(which.accessor)
  }

  /** @throws DeputyError `secret_backend_unavailable` where it cannot be told */
  const isDead = (which: TokenInUse): Promise<boolean> => {
    if (monotonic() - which.provenAt < TRUSTED_MS) return Promise.resolve(false)
    return (which.looking ??= (async () => {
      const isOver = await isTokenDead(send, which.token)
      if (isOver) await ended(which)
      else which.provenAt = monotonic()
      return isOver
    })().finally(() => {
      delete which.looking
    }))
  }

  /** With the token that is in use, and once more with another where it turns out to have ended. */
  const withToken = async (request: VaultRequest, prepare: (which: TokenInUse) => Promise<void>) => {
    const using = await current()
    await prepare(using)
    const answer = await send(request, using.token)
    if (answer.status !== 403 || !(await isDead(using))) return { answer, using }
    const next = await current()
    await prepare(next)
    return { answer: await send(request, next.token), using: next }
  }

  /** What is made under it lives on when this process does not. */
  const store = async (which: TokenInUse): Promise<void> => {
    if (which.isStored || which.accessor === '' || which.until === Infinity) return
    await stored?.add({
      accessor: which.accessor,
      token: isGiven ? undefined : which.token,
      endsAt: endsAt(which),
    })
    which.isStored = stored !== undefined
  }

  const looking =
    stored === undefined
      ? undefined
      : setInterval(() => {
          void (async () => stored.look((await inUse?.catch(() => undefined))?.accessor))()
        }, LOOK_MS)
  looking?.unref()

  return {
    ask: async (request) => (await withToken(request, () => Promise.resolve())).answer,
    async askForLease(request) {
      const { answer, using } = await withToken(request, store)
      const name = using.accessor === '' ? BATCH : using.accessor
      return { answer, parent: { name, endsAt: endsAt(using) } }
    },
    async endOf(parent) {
      if (parent === BATCH) return Infinity
      const using = await inUse?.catch(() => undefined)
      if (using?.accessor === parent) return endsAt(using)
      return (await stored?.endOf(parent)) ?? 0
    },
    async close() {
      closed = true
      clearTimeout(timer)
      clearInterval(looking)
      const using = await inUse?.catch(() => undefined)
      // A token that nothing is under would only stay behind.
      if (using !== undefined && !using.isStored && !isGiven && using.until > monotonic())
        await revokeToken(send, using.token, FAREWELL_MS).catch((error: unknown) => {
          logger.debug({ backend: id, problem: (error as Error).message }, 'a token of Vault was left to end by itself')
        })
    },
  }
}
