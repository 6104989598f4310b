import { createLru } from '#foundation/lru'
import type { Clock } from '#clock'
import { DeputyError, problemForAdmins, refuse } from '#errors'
import { within } from '#foundation/async'
import type { Logger } from '#foundation/telemetry'
import type { SecretBackend, SecretVersion } from './backend.ts'
import { isSilence } from './silence.ts'

const MAX_ENTRIES = 10_000
/** A request that has a usable copy waits so long for a reading (ms); later requests do not wait until that reading has ended. */
const PATIENCE_MS = 1000

/** A secret that stays fresh for so long (ms) or longer is read again when this part of the time is over. */
const AHEAD_FROM_MS = 60_000
const AHEAD = 0.8

const isOutage = (error: unknown): error is DeputyError =>
  error instanceof DeputyError && error.code === 'secret_backend_unavailable'

/**
 * Whether an error says that a secret no longer exists or may no longer be read: the backend's own 404 or 403, or an entry
 * that is no secret. Any other status concerns the request and removes nothing from the cache.
 */
const isGone = (error: unknown): boolean => {
  if (!(error instanceof DeputyError)) return false
  const status = error.facts['status']
  const isRefused =
    error.code === 'secret_backend_refused' && (status === undefined || status === 403 || status === 404)
  return error.code === 'secret_missing' || isRefused
}

interface Entry {
  readonly version: SecretVersion
  readonly at: number
  readonly readAt: number
  /** Why the last reading failed, until one succeeds. */
  problem?: string
}

interface Reading {
  readonly result: Promise<Entry>
  readonly since: number
}

export interface SecretCacheOptions {
  /** Of the backend. */
  readonly id: string
  /** How long a copy is used without asking the backend (ms). */
  readonly fresh: number
  /** How long a copy is used while the backend is unavailable (ms). */
  readonly stale: number
  /** After so many ms a reading that has not ended is begun anew; later requests do not share it. */
  readonly limit: number
  readonly clock: Clock
  /** ms, never going back. */
  readonly monotonic: () => number
  readonly logger: Logger
}

/**
 * Copies of the secrets that were read from a backend: used without asking while they are fresh, and while the backend is
 * unavailable until they are stale. Requests for one secret share a reading. Where the backend is known to be silent, or the
 * last reading of this secret failed, the copy is returned at once and the reading continues in the background. Times count
 * from the moment at which the reading began.
 */
export class SecretCache {
  readonly #backend: Pick<SecretBackend, 'read'>
  readonly #options: SecretCacheOptions
  readonly #entries = createLru<string, Entry>({ max: MAX_ENTRIES })
  readonly #readings = new Map<string, Reading>()
  /** Why the backend as a whole is silent. */
  #silence: string | undefined
  /** The last outage of any kind, for admins. */
  #outage: string | undefined
  /** Secrets whose last reading was refused, with the reason. */
  readonly #refused = createLru<string, string>({ max: MAX_ENTRIES })

  constructor(backend: Pick<SecretBackend, 'read'>, options: SecretCacheOptions) {
    this.#backend = backend
    this.#options = options
  }

  /**
   * @param grace how long a version works after another has taken its place (ms): a copy that could have ended is not used
   * @throws DeputyError as the backend does; `secret_backend_unavailable` only where no copy may be used any more
   */
  async read(tenant: string, name: string, grace = Infinity): Promise<SecretVersion> {
    const { fresh, stale } = this.#options
    const key = keyOf(tenant, name)
    const entry = this.#entries.get(key)
    if (entry !== undefined && this.#age(key) <= Math.min(fresh, grace / 4)) {
      // Before a request would have to wait, the secret is read again in the background.
      if (fresh >= AHEAD_FROM_MS && this.#age(key) > fresh * AHEAD && !this.#readings.has(key))
        this.#begin(tenant, name).catch(() => undefined)
      return shown(entry)
    }
    const reading = this.#reading(tenant, name)
    const isUsable = (): boolean => this.#age(key) <= Math.min(stale, (grace * 3) / 4)
    if (entry !== undefined && (this.#silence ?? entry.problem) !== undefined && isUsable()) {
      // The reading is expected to fail: no request waits for it, and its success ends the outage.
      reading.catch(() => undefined)
      return shown(entry)
    }
    try {
      if (entry === undefined || !isUsable()) return shown(await reading)
      return shown(await within(PATIENCE_MS, reading, () => this.#slow(entry)))
    } catch (error) {
      const known = this.#entries.get(key)
      if (isOutage(error) && known !== undefined && isUsable()) return shown(known)
      throw error
    }
  }

  /** Drops the copy of a secret: the next request reads it from the backend. */
  forget(tenant: string, name: string): void {
    const key = keyOf(tenant, name)
    this.#entries.delete(key)
    // A reading that is under way may return the version before.
    this.#readings.delete(key)
  }

  /** The backend's problem, for admins: its last outage, until it has answered again, or the readings that it refuses. */
  problem(): string | undefined {
    if (this.#outage !== undefined)
      return this.#entries.size === 0 ? this.#outage : `${this.#outage}; secrets that were read before are in use`
    const last = [...this.#refused].at(0)
    if (last === undefined) return undefined
    const [name, reason] = last
    const { size } = this.#refused
    return `refused for ${size === 1 ? `the secret ${name}` : `${size} secrets, the last one ${name}`}: ${reason}`
  }

  /** How long ago the reading of a copy began (ms). */
  #age(key: string): number {
    return this.#options.monotonic() - (this.#entries.get(key)?.at ?? -Infinity)
  }

  /** The reading that requests share; one that hangs is replaced. */
  #reading(tenant: string, name: string): Promise<Entry> {
    const found = this.#readings.get(keyOf(tenant, name))
    return found !== undefined && this.#options.monotonic() - found.since <= this.#options.limit
      ? found.result
      : this.#begin(tenant, name)
  }

  /** Begins a reading that later requests share. Its result enters the cache unless the secret is forgotten meanwhile. */
  #begin(tenant: string, name: string): Promise<Entry> {
    const key = keyOf(tenant, name)
    const isCurrent = (): boolean => this.#readings.get(key)?.result === result
    const result = this.#fetch(tenant, name)
      .then(
        (entry) => {
          this.#succeeded(key, entry, isCurrent())
          return entry
        },
        (error: unknown) => {
          this.#failed(key, error, isCurrent())
          throw error
        },
      )
      .finally(() => {
        if (isCurrent()) this.#readings.delete(key)
      })
    this.#readings.set(key, { result, since: this.#options.monotonic() })
    return result
  }

  async #fetch(tenant: string, name: string): Promise<Entry> {
    const [at, readAt] = [this.#options.monotonic(), this.#options.clock.now()]
    return { version: await this.#backend.read(tenant, name), at, readAt }
  }

  #succeeded(key: string, entry: Entry, isCurrent: boolean): void {
    const { id, logger } = this.#options
    if (this.#outage !== undefined) logger.info({ backend: id }, 'secret backend available again')
    this.#silence = this.#outage = undefined
    this.#refused.delete(key)
    if (isCurrent) this.#entries.set(key, entry)
  }

  #failed(key: string, error: unknown, isCurrent: boolean): void {
    if (!isOutage(error)) {
      // The backend has answered, though not with the secret.
      if (this.#silence !== undefined) this.#silence = this.#outage = undefined
      if (error instanceof DeputyError && error.code !== 'secret_missing')
        this.#refused.set(key, problemForAdmins(error))
      else this.#refused.delete(key)
      if (isCurrent && isGone(error)) this.#entries.delete(key)
      return
    }
    const { id, logger } = this.#options
    if (this.#outage === undefined)
      logger.warn({ backend: id, err: error }, 'secret backend unavailable; secrets that were read before are used')
    this.#outage = problemForAdmins(error)
    if (isSilence(error)) this.#silence = this.#outage
    const entry = this.#entries.get(key)
    if (entry !== undefined) entry.problem = this.#outage
  }

  /** Notes that a reading has not ended in time. */
  #slow(entry: Entry): DeputyError {
    const problem = 'it has not answered yet'
    entry.problem = this.#outage = problem
    return refuse('secret_backend_unavailable', { backend: '', problem })
  }
}

const keyOf = (tenant: string, name: string): string => `${tenant}/${name}`

const shown = ({ version, readAt }: Entry): SecretVersion => ({ ...version, readAt })
