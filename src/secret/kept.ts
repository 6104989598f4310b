import { LRUCache } from 'lru-cache'
import type { Clock } from '../clock.ts'
import { DeputyError } from '../errors.ts'
import type { SecretBackend, SecretVersion } from './backend.ts'

const ENTRIES = 10_000

const isOutage = (error: unknown): error is DeputyError =>
  error instanceof DeputyError && error.code === 'secret_backend_unavailable'

interface Entry {
  readonly version: SecretVersion
  readonly at: number
  readonly readAt: number
}

/** Secrets that were read before, for so long as the settings allow. */
export interface KeptSecrets {
  /**
   * @param grace how long a version works after another has taken its place (ms): nothing is used that could have ended
   * @throws DeputyError as the backend does; `secret_backend_unavailable` only once nothing that was read may be used any more
   */
  read(tenant: string, name: string, grace?: number): Promise<SecretVersion>
  forget(tenant: string, name: string): void
  /** What the backend's last outage was about; undefined since it has answered again. */
  problem(): string | undefined
}

/**
 * Keeps what was read: used without asking while it is fresh, and while the backend is away until it is stale. Requests for
 * one secret share a read. Times count from the moment at which the reading began.
 */
export const keepSecrets = (
  backend: SecretBackend,
  options: { fresh: number; stale: number; clock: Clock; monotonic: () => number },
): KeptSecrets => {
  const entries = new LRUCache<string, Entry>({ max: ENTRIES })
  const underWay = new Map<string, Promise<Entry>>()
  let problem: string | undefined
  const keyOf = (tenant: string, name: string): string => `${tenant}/${name}`

  const fetched = async (tenant: string, name: string): Promise<Entry> => {
    const [at, readAt] = [options.monotonic(), options.clock.now()]
    const version = await backend.read(tenant, name)
    problem = undefined
    return { version, at, readAt }
  }
  /** Begins a reading that those who come meanwhile share; unless it is forgotten on the way, its end is what is known then. */
  const begin = (tenant: string, name: string, key: string): Promise<Entry> => {
    const reading: Promise<Entry> = fetched(tenant, name)
      .then(
        (entry) => {
          if (underWay.get(key) === reading) entries.set(key, entry)
          return entry
        },
        (error: unknown) => {
          if (isOutage(error)) problem = String(error.facts['problem'])
          // It is gone, or is none of ours any more.
          else entries.delete(key)
          throw error
        },
      )
      .finally(() => {
        if (underWay.get(key) === reading) underWay.delete(key)
      })
    underWay.set(key, reading)
    return reading
  }
  const shown = ({ version, readAt }: Entry): SecretVersion => ({ ...version, readAt })

  return {
    async read(tenant, name, grace = Infinity) {
      const key = keyOf(tenant, name)
      const age = (): number => options.monotonic() - (entries.get(key)?.at ?? -Infinity)
      const entry = entries.get(key)
      if (entry !== undefined && age() <= Math.min(options.fresh, grace / 4)) return shown(entry)
      const reading = underWay.get(key) ?? begin(tenant, name, key)
      const isUsable = (): boolean => age() <= Math.min(options.stale, (grace * 3) / 4)
      if (entry !== undefined && problem !== undefined && isUsable()) {
        // It is known to be away: nobody waits for it to fail again, and the reading tells when it is back.
        reading.catch(() => undefined)
        return shown(entry)
      }
      try {
        return shown(await reading)
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
    problem: () => problem,
  }
}
