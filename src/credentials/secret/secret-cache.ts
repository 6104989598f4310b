import { createLru } from '#foundation/lru'
import type { Clock } from '#clock'
import { DeputyError, problemForAdmins, refuse } from '#errors'
import { within } from '#foundation/async'
import type { Logger } from '#foundation/telemetry'
import type { SecretBackend, SecretVersion } from './backend.ts'
import { isSilence } from './silence.ts'

const MAX_ENTRIES = 10_000
/** With a usable copy at hand a request waits no longer for a reading (ms), and later ones not at all until it has ended. */
const PATIENCE_MS = 1000

/** A secret that is kept for so long (ms) or longer is read again when this part of the time is over. */
const AHEAD_FROM_MS = 60_000
const AHEAD = 0.8

const isOutage = (error: unknown): error is DeputyError =>
  error instanceof DeputyError && error.code === 'secret_backend_unavailable'

/**
 * Whether an error says that a secret is gone, or is not ours any more: the backend's own 404 or 403, or what it holds is no
 * secret. Any other status is about the question, and takes nothing away.
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
  /** The last reading failed: its problem, until one succeeds. */
  problem?: string
}

/** Secrets that were read before, for so long as the settings allow. */
export interface SecretCache {
  /**
   * @param grace how long a version works after another has taken its place (ms): nothing is used that could have ended
   * @throws DeputyError as the backend does; `secret_backend_unavailable` only once nothing that was read may be used any more
   */
  read(tenant: string, name: string, grace?: number): Promise<SecretVersion>
  forget(tenant: string, name: string): void
  /** What is wrong with the backend, for admins: its last outage, until it has answered again, or what it refuses. */
  problem(): string | undefined
}

/**
 * Keeps what was read: used without asking while it is fresh, and while the backend is away until it is stale. Requests for
 * one secret share a read. Where the backend is known to be silent, or the last reading of this secret failed, what is kept is
 * given at once and the reading goes on beside the request. Times count from the moment at which the reading began.
 * @param options.limit ms after which a reading that has not ended is begun anew; later readings do not share it
 */
export const createSecretCache = (
  backend: SecretBackend,
  options: {
    id: string
    fresh: number
    stale: number
    limit: number
    clock: Clock
    monotonic: () => number
    logger: Logger
  },
): SecretCache => {
  const entries = createLru<string, Entry>({ max: MAX_ENTRIES })
  const underWay = new Map<string, { readonly reading: Promise<Entry>; readonly since: number }>()
  /** The backend as a whole is silent. */
  let silence: string | undefined
  /** Of the last outage of any kind, for people. */
  let problem: string | undefined
  /** Secrets whose last reading was refused, with what was said. */
  const refused = createLru<string, string>({ max: MAX_ENTRIES })
  const keyOf = (tenant: string, name: string): string => `${tenant}/${name}`

  const fetched = async (tenant: string, name: string): Promise<Entry> => {
    const [at, readAt] = [options.monotonic(), options.clock.now()]
    const version = await backend.read(tenant, name)
    return { version, at, readAt }
  }
  const failed = (key: string, error: unknown, isCurrent: boolean): void => {
    if (!isOutage(error)) {
      // It has answered, though not with the secret.
      if (silence !== undefined) silence = problem = undefined
      if (error instanceof DeputyError && error.code !== 'secret_missing') refused.set(key, problemForAdmins(error))
      else refused.delete(key)
      if (isCurrent && isGone(error)) entries.delete(key)
      return
    }
    const { id, logger } = options
    if (problem === undefined)
      logger.warn({ backend: id, err: error }, 'secret backend unavailable; secrets that were read before are used')
    problem = problemForAdmins(error)
    if (isSilence(error)) silence = problem
    const kept = entries.get(key)
    if (kept !== undefined) kept.problem = problem
  }
  /** Begins a reading that those who come meanwhile share; unless it is forgotten on the way, its end is what is known then. */
  const begin = (tenant: string, name: string, key: string): Promise<Entry> => {
    const reading = fetched(tenant, name)
      .then(
        (entry) => {
          if (problem !== undefined) options.logger.info({ backend: options.id }, 'secret backend available again')
          silence = problem = undefined
          refused.delete(key)
          if (underWay.get(key)?.reading === reading) entries.set(key, entry)
          return entry
        },
        (error: unknown) => {
          failed(key, error, underWay.get(key)?.reading === reading)
          throw error
        },
      )
      .finally(() => {
        if (underWay.get(key)?.reading === reading) underWay.delete(key)
      })
    underWay.set(key, { reading, since: options.monotonic() })
    return reading
  }
  /** A reading that hangs is not shared for ever. */
  const shared = (tenant: string, name: string, key: string): Promise<Entry> => {
    const found = underWay.get(key)
    return found !== undefined && options.monotonic() - found.since <= options.limit
      ? found.reading
      : begin(tenant, name, key)
  }
  const slow = (entry: Entry): DeputyError => {
    entry.problem = problem = 'it has not answered yet'
    return refuse('secret_backend_unavailable', { backend: '', problem })
  }
  const shown = ({ version, readAt }: Entry): SecretVersion => ({ ...version, readAt })

  return {
    async read(tenant, name, grace = Infinity) {
      const key = keyOf(tenant, name)
      const age = (): number => options.monotonic() - (entries.get(key)?.at ?? -Infinity)
      const entry = entries.get(key)
      if (entry !== undefined && age() <= Math.min(options.fresh, grace / 4)) {
        // Before it has to be waited for, it is read beside the request.
        if (options.fresh >= AHEAD_FROM_MS && age() > options.fresh * AHEAD && !underWay.has(key))
          begin(tenant, name, key).catch(() => undefined)
        return shown(entry)
      }
      const reading = shared(tenant, name, key)
      const isUsable = (): boolean => age() <= Math.min(options.stale, (grace * 3) / 4)
      if (entry !== undefined && (silence ?? entry.problem) !== undefined && isUsable()) {
        // It is known to fail: no request waits for it to fail again, and the reading tells when it is back.
        reading.catch(() => undefined)
        return shown(entry)
      }
      try {
        if (entry === undefined || !isUsable()) return shown(await reading)
        return shown(await within(PATIENCE_MS, reading, () => slow(entry)))
      } catch (error) {
        const kept = entries.get(key)
        if (isOutage(error) && kept !== undefined && isUsable()) return shown(kept)
        throw error
      }
    },
    forget(tenant, name) {
      const key = keyOf(tenant, name)
      entries.delete(key)
      // What is being read may be what was before.
      underWay.delete(key)
    },
    problem() {
      if (problem !== undefined)
        return entries.size === 0 ? problem : `${problem}; secrets that were read before are in use`
      const last = [...refused].at(0)
      return last === undefined
        ? undefined
        : `refused for ${refused.size === 1 ? `the secret ${last[0]}` : `${refused.size} secrets, the last one ${last[0]}`}: ${last[1]}`
    },
  }
}
