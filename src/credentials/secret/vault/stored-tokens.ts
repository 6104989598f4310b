import type { Clock } from '#clock'
import { DeputyError } from '#errors'
import type { Envelope, Secret } from '#foundation/crypto'
import { type BackendToken, backendTokenName, type BackendTokenStore } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import type { SendToVault } from './client.ts'
import { pauseAfter, renewToken, revokeToken } from './token-life.ts'

/** The node that looks after a token has it for so long (ms). */
const CLAIM_MS = 10_000
const AT_ONCE = 10
/** The node that uses a token renews it well before this part of its life is over; then others do. */
const LATE = 5 / 6
const REVOKED_WITHIN_MS = 3000

/** What tokens and the leases under them need of the rest of the daemon. */
export interface TokenStorage {
  readonly store: BackendTokenStore
  readonly envelope: Envelope
  /** Whether any lease is under it. */
  readonly hasLeases: (accessor: string) => Promise<boolean>
  /** Vault has ended it, and so everything under it. */
  readonly ended: (accessor: string) => Promise<void>
}

/** Tokens that leases are under, over restarts and for all nodes. */
export interface StoredTokens {
  /** Durable when it resolves. @param token undefined where the settings name it */
  add(given: { accessor: string; token: Secret | undefined; endsAt: number }): Promise<void>
  extend(accessor: string, endsAt: number): Promise<void>
  /** Until when it lives at least (ms since the epoch); undefined for one that has ended. */
  endOf(accessor: string): Promise<number | undefined>
  ended(accessor: string): Promise<void>
  /** Renews what its own process does not renew any more, until the leases under it are over, and then ends it. @param own the token that this process uses */
  look(own: string | undefined): Promise<void>
}

/**
 * In Vault each lease is a child of the token that asked for it, and ends with it
 * (https://developer.hashicorp.com/vault/docs/concepts/lease). So the token is stored, sealed under Deputy's own key, and
 * renewed by any node, for as long as leases are under it: a restart or a node that is gone costs no login.
 * @param options.place address and namespace; a token is sent nowhere else
 */
export const createStoredTokens = (options: {
  readonly id: string
  readonly place: string
  readonly tokenStorage: TokenStorage
  readonly send: SendToVault
  readonly clock: Clock
  readonly logger: Logger
}): StoredTokens => {
  const { id, place, send, clock, logger } = options
  const { store, envelope, hasLeases, ended } = options.tokenStorage
  const nextAt = (endsAt: number): number => clock.now() + (endsAt - clock.now()) * LATE

  const lost = async (accessor: string): Promise<void> => {
    await ended(accessor)
    await store.remove(accessor)
  }

  const renew = async (row: BackendToken, token: Secret): Promise<void> => {
    const began = clock.now()
    try {
      const renewal = await renewToken(id, send, token)
      if (renewal === 'dead') await lost(row.accessor)
      else if (renewal === 'denied') await store.update({ ...row, nextAt: row.endsAt })
      else {
        const endsAt = began + renewal.duration
        const wait = Math.max(1000, (endsAt - clock.now()) * LATE)
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

  const lookAt = async (row: BackendToken): Promise<void> => {
    if (row.endsAt <= clock.now()) {
      await store.remove(row.accessor)
      return
    }
    const claimed: BackendToken = { ...row, nextAt: clock.now() + CLAIM_MS, revision: row.revision + 1 }
    if (!(await store.update({ ...claimed, revision: row.revision }))) return
    const isUsed = await hasLeases(row.accessor)
    // It is the admin's, who renews and ends it.
    if (row.sealed === null || row.place !== place) {
      if (isUsed) await store.update({ ...claimed, nextAt: row.endsAt })
      else await store.remove(row.accessor)
      return
    }
    const token = await envelope.open(backendTokenName(row), row.sealed)
    if (isUsed) {
      await renew(claimed, token)
      return
    }
    await revokeToken(send, token, REVOKED_WITHIN_MS)
    await store.remove(row.accessor)
  }

  let looking: Promise<void> | undefined
  const look = async (own: string | undefined): Promise<void> => {
    for (const row of await store.due(id, clock.now(), AT_ONCE)) {
      if (row.accessor === own) continue
      try {
        await lookAt(row)
      } catch (error) {
        logger.warn({ backend: id, err: error }, 'care of a stored Vault token failed; retrying')
        if (error instanceof DeputyError && error.code === 'secret_unreadable') await store.remove(row.accessor)
      }
    }
  }

  return {
    async add({ accessor, token, endsAt }) {
      const name = { accessor, backend: id, place }
      const sealed = token === undefined ? null : await envelope.seal(backendTokenName(name), token)
      await store.put({ ...name, sealed, endsAt, nextAt: nextAt(endsAt), attempts: 0, revision: 0 })
    },
    async extend(accessor, endsAt) {
      const row = await store.find(accessor)
      if (row !== undefined) await store.put({ ...row, endsAt, nextAt: nextAt(endsAt), attempts: 0 })
    },
    endOf: async (accessor) => (await store.find(accessor))?.endsAt,
    ended: lost,
    look(own) {
      return (looking ??= look(own)
        .catch((error: unknown) => {
          logger.debug({ backend: id, err: error }, 'care of stored tokens failed')
        })
        .finally(() => {
          looking = undefined
        }))
    },
  }
}
