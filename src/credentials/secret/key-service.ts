import { DeputyError, problemForAdmins, refuse } from '#errors'
import { within } from '#foundation/async'
import type { KeyEncryptionKey } from '#foundation/crypto'

/**
 * After so long without a request `status` asks the service (ms): data keys stay open in memory, so that a day may pass
 * without one.
 */
const PROBED_AFTER_MS = 60_000
/** `status` waits so long for the outcome of that request (ms); a later `status` reports it. */
const PROBE_PATIENCE_MS = 300
const PROBE = { key: new Uint8Array(32), context: new TextEncoder().encode('deputy status') }

export interface WatchedKey extends KeyEncryptionKey {
  /** What is wrong with the service, for admins; undefined: nothing that is known. */
  problem(): Promise<string | undefined>
}

/**
 * What a backend of secrets has refused, as the refusal of a key service: its next steps are others, and nothing is
 * lost.
 */
const asKeyService = (error: unknown): unknown => {
  if (!(error instanceof DeputyError)) return error
  const { code, facts, cause } = error
  if (code === 'secret_backend_unavailable') return refuse('key_service_unavailable', facts, cause)
  if (code === 'secret_backend_refused' || code === 'wrapping_violated')
    return refuse('key_service_refused', facts, cause)
  return error
}

/**
 * A key in a service: its failures are those of a key service, and how it is can be asked. @param monotonic ms, never
 * going back
 */
export const watchKeyService = (key: KeyEncryptionKey, monotonic: () => number): WatchedKey => {
  let problem: string | undefined
  let askedAt = -Infinity
  let probing: Promise<unknown> | undefined
  const asked = async <T>(work: () => Promise<T>): Promise<T> => {
    askedAt = monotonic()
    try {
      const done = await work()
      problem = undefined
      return done
    } catch (thrown) {
      const error = asKeyService(thrown)
      // That one data key fails authentication says nothing about the service.
      problem = error instanceof DeputyError ? problemForAdmins(error) : undefined
      throw error
    }
  }
  /**
   * A data key was refused, and none has been opened since: what the service can do besides does not make up for that.
   */
  let refusal: string | undefined
  const wrap: KeyEncryptionKey['wrap'] = (dataKey, additionalData) => asked(() => key.wrap(dataKey, additionalData))
  const unwrap: KeyEncryptionKey['unwrap'] = async (id, wrapped, additionalData) => {
    try {
      const opened = await asked(() => key.unwrap(id, wrapped, additionalData))
      refusal = undefined
      return opened
    } catch (error) {
      if (error instanceof DeputyError && error.code === 'key_service_refused') refusal = problemForAdmins(error)
      throw error
    }
  }
  /** Both rights are needed: to wrap, and to open. */
  const probe = async (): Promise<void> => {
    const { id, bytes } = await wrap(PROBE.key, PROBE.context)
    await asked(() => key.unwrap(id, bytes, PROBE.context))
  }
  return {
    ...key,
    wrap,
    unwrap,
    async problem() {
      if (monotonic() - askedAt > PROBED_AFTER_MS || problem !== undefined) {
        probing ??= probe().finally(() => {
          probing = undefined
        })
        await within(PROBE_PATIENCE_MS, probing, () => new Error('late')).catch(() => undefined)
      }
      return problem ?? refusal
    },
  }
}

/** AWS KMS, loaded where it is configured: no other daemon pays for the SDK. */
export const loadKms = () => import('./aws/kms.ts')
