import type { Clock } from '#clock'
import { DeputyError } from '#errors'
import type { Envelope, Secret } from '#foundation/crypto'
import { type BackendToken, backendTokenName, type BackendTokenStore } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import type { SendToVault } from './client.ts'
import { pauseAfter, renewToken, revokeToken } from './token-life.ts'

/** A node that renews or ends a token has claimed it for so long (ms). */
const CLAIM_MS = 10_000
const AT_ONCE = 10
/** The node that uses a token renews it well before this part of its life is over; after it other nodes do. */
const OTHERS_RENEW_AFTER = 5 / 6
const REVOKED_WITHIN_MS = 3000

/** Where tokens with leases under them are stored, and what the daemon knows of those leases. */
export interface TokenStorage {
  readonly store: BackendTokenStore
  readonly envelope: Envelope
  /** Whether any lease is under it. */
  readonly hasLeases: (accessor: string) => Promise<boolean>
  /** Vault has ended it, and so everything under it. */
  readonly ended: (accessor: string) => Promise<void>
}

/** Vault tokens that leases are under, stored for all nodes and over restarts. */
export interface StoredTokens {
  /** Durable when it resolves. @param token undefined where the settings name it */
  add(given: { accessor: string; token: Secret | undefined; endsAt: number }): Promise<void>
  extend(accessor: string, endsAt: number): Promise<void>
  /** Until when it lives at least (ms since the epoch); undefined for one that has ended. */
  endOf(accessor: string): Promise<number | undefined>
  ended(accessor: string): Promise<void>
  /** Renews each token whose own process no longer renews it, and ends it when no lease is under it. @param own the token that this process uses */
  look(own: string | undefined): Promise<void>
}

export interface StoredTokensOptions {
  /** Of the backend. */
  readonly id: string
  /** Address and namespace; a token is sent to no other. */
  readonly place: string
  readonly tokenStorage: TokenStorage
  readonly send: SendToVault
  readonly clock: Clock
  readonly logger: Logger
}

/**
 * In Vault each lease is a child of the token that asked for it, and ends with it
 * (https://developer.hashicorp.com/vault/docs/concepts/lease). So the token is stored, sealed under Deputy's own key, and
 * renewed by any node, for as long as leases are under it: a restart or a lost node costs no login.
 */
export const createStoredTokens = (options: StoredTokensOptions): StoredTokens => new TokenCare(options)

class TokenCare implements StoredTokens {
  readonly #options: StoredTokensOptions
  #looking: Promise<void> | undefined

  constructor(options: StoredTokensOptions) {
    this.#options = options
  }

  async add({ accessor, token, endsAt }: { accessor: string; token: Secret | undefined; endsAt: number }) {
    const { id, place, tokenStorage } = this.#options
    const name = { accessor, backend: id, place }
    const sealed = token === undefined ? null : await tokenStorage.envelope.seal(backendTokenName(name), token)
    await tokenStorage.store.put({
      ...name,
      sealed,
      endsAt,
      nextAt: this.#nextAt(endsAt),
      attempts: 0,
      revision: 0,
    })
  }

  async extend(accessor: string, endsAt: number): Promise<void> {
    const { store } = this.#options.tokenStorage
    const row = await store.find(accessor)
    if (row !== undefined) await store.put({ ...row, endsAt, nextAt: this.#nextAt(endsAt), attempts: 0 })
  }

  async endOf(accessor: string): Promise<number | undefined> {
    return (await this.#options.tokenStorage.store.find(accessor))?.endsAt
  }

  async ended(accessor: string): Promise<void> {
    const { store, ended } = this.#options.tokenStorage
    await ended(accessor)
    await store.remove(accessor)
  }

  look(own: string | undefined): Promise<void> {
    return (this.#looking ??= this.#lookAtAll(own)
      .catch((error: unknown) => {
        this.#options.logger.debug({ backend: this.#options.id, err: error }, 'care of stored tokens failed')
      })
      .finally(() => {
        this.#looking = undefined
      }))
  }

  async #lookAtAll(own: string | undefined): Promise<void> {
    const { id, clock, logger } = this.#options
    const { store } = this.#options.tokenStorage
    for (const row of await store.due(id, clock.now(), AT_ONCE)) {
      if (row.accessor === own) continue
      try {
        await this.#lookAt(row)
      } catch (error) {
        logger.warn({ backend: id, err: error }, 'care of a stored Vault token failed; retrying')
        if (error instanceof DeputyError && error.code === 'secret_unreadable') await store.remove(row.accessor)
      }
    }
  }

  async #lookAt(row: BackendToken): Promise<void> {
    const { place, send, clock } = this.#options
    const { store, envelope, hasLeases } = this.#options.tokenStorage
    if (row.endsAt <= clock.now()) {
      await store.remove(row.accessor)
      return
    }
    const claimed: BackendToken = { ...row, nextAt: clock.now() + CLAIM_MS, revision: row.revision + 1 }
    if (!(await store.update({ ...claimed, revision: row.revision }))) return
    const isUsed = await hasLeases(row.accessor)
    // The token is the admin's, who renews and ends it.
    if (row.sealed === null || row.place !== place) {
      if (isUsed) await store.update({ ...claimed, nextAt: row.endsAt })
      else await store.remove(row.accessor)
      return
    }
    const token = await envelope.open(backendTokenName(row), row.sealed)
    if (isUsed) {
      await this.#renew(claimed, token)
      return
    }
    await revokeToken(send, token, REVOKED_WITHIN_MS)
    await store.remove(row.accessor)
  }

  async #renew(row: BackendToken, token: Secret): Promise<void> {
    const { id, send, clock, logger } = this.#options
    const { store } = this.#options.tokenStorage
    const began = clock.now()
    try {
      const renewal = await renewToken(id, send, token)
      if (renewal === 'dead') await this.ended(row.accessor)
      else if (renewal === 'denied') await store.update({ ...row, nextAt: row.endsAt })
      else {
        const endsAt = began + renewal.duration
        const wait = Math.max(1000, (endsAt - clock.now()) * OTHERS_RENEW_AFTER)
        await store.update({ ...row, endsAt, nextAt: clock.now() + wait, attempts: 0 })
      }
    } catch (error) {
      const attempts = row.attempts + 1
      logger.debug({ backend: id, attempts, problem: (error as Error).message }, 'renewal of a stored token failed')
      const now = clock.now()
      // The nearer the end, the shorter the pause.
      const pause = Math.min(pauseAfter(attempts), (row.endsAt - now) / 2)
      await store.update({ ...row, attempts, nextAt: now + pause })
    }
  }

  #nextAt(endsAt: number): number {
    const now = this.#options.clock.now()
    return now + (endsAt - now) * OTHERS_RENEW_AFTER
  }
}
