import { createLru } from '#foundation/lru'
import type { Clock } from '#clock'
import type { CheckedOutSecret } from '#credentials/connector'
import type { RotatedSecret, SecretHolder, SecretHolderStore } from '#foundation/store'

/** The process of this node that asks for a secret, as the kernel identifies it. */
export interface CheckoutProcess {
  readonly server: string
  readonly user: string | null
  /** Undefined where the daemon cannot distinguish several processes. */
  readonly process: string | undefined
}

/** A checkout is recorded for this multiple of the credential's lifetime, so that most later checkouts need no write. */
const RECORDED_LIFETIME_FACTOR = 1.25
const MAX_REMEMBERED = 50_000

/**
 * Records which process has checked out which version of a rotating secret. The record is durable before the secret is handed
 * out, so that the old version does not end while a process uses it. A process that checks out the new version has returned the
 * old one; processes that the daemon cannot distinguish keep it until their checkout expires.
 */
export const createCheckouts = (options: {
  readonly store: SecretHolderStore
  readonly node: string
  /** The current version, read without a cache. */
  readonly currentOf: (secret: RotatedSecret) => Promise<string>
  /** Called with a secret whose cached version is outdated. */
  readonly outdated: (secret: RotatedSecret) => void
  readonly clock: Clock
}) => {
  const { store, clock } = options
  const nameOf = ({ server, user, process }: CheckoutProcess, version: string): string =>
    JSON.stringify([server, user, ...(process === undefined ? [null, version] : [options.node, process])])
  const written = createLru<string, { version: string; until: number }>({ max: MAX_REMEMBERED })
  return {
    /**
     * Records that the version is handed out.
     * @param until when the process has to ask again (ms since the epoch)
     * @returns false when another version has become current: this one must not be handed out
     */
    async checkOut(
      { secret, version, mustBeCurrent }: CheckedOutSecret,
      who: CheckoutProcess,
      until: number,
    ): Promise<boolean> {
      const holder = nameOf(who, version)
      const key = JSON.stringify([secret.tenant, secret.backend, secret.secret, holder])
      const known = written.get(key)
      if (known?.version === version && known.until >= until) return true
      const now = clock.now()
      const entry = { version, until: now + Math.ceil((until - now) * RECORDED_LIFETIME_FACTOR) }
      const { tenant, backend, secret: name } = secret
      await store.put({ tenant, backend, secret: name, holder, server: who.server, ...entry })
      // The grace may have ended before the checkout was recorded; it cannot end afterwards.
      if (mustBeCurrent && (await options.currentOf(secret)) !== version) {
        options.outdated(secret)
        return false
      }
      written.set(key, entry)
      return true
    },
    /** Returns all that the process has checked out. @param who must not check out again under the same name: its remembered checkouts would pass for recorded */
    forget: (who: CheckoutProcess & { readonly process: string }): Promise<void> => store.forget(nameOf(who, '')),
    /** Checkouts of a version that have not expired. */
    async of(secret: RotatedSecret, version: string | null): Promise<SecretHolder[]> {
      return (await store.list(secret, clock.now())).filter((each) => each.version === version)
    },
  }
}
export type Checkouts = ReturnType<typeof createCheckouts>
