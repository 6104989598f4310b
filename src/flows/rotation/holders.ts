import { createLru } from '#foundation/lru'
import type { Clock } from '#clock'
import type { HeldSecret } from '#credentials/connector'
import type { RotatedSecret, SecretHolder, SecretHolderStore } from '#foundation/store'

/** Who asks: the process, where the kernel has said which one it is, on this node. */
export interface HoldingProcess {
  readonly server: string
  readonly user: string | null
  /** Undefined where several processes cannot be told apart. */
  readonly process: string | undefined
}

/** What is written down lasts so much longer than what is handed out, so that not every hand-out has to be written down. */
const LONGER = 1.25
const REMEMBERED = 50_000

/**
 * Who holds which version of a secret that rotates. It is durable before the secret is handed out, so that the old version
 * does not end while somebody has it who could have the new one. A process that fetches the new one has given up the old one;
 * processes that cannot be told apart keep it until their time is over.
 */
export const createHolders = (options: {
  readonly store: SecretHolderStore
  readonly node: string
  /** The version that is current now, with nothing kept. */
  readonly currentOf: (secret: RotatedSecret) => Promise<string>
  /** Told of a secret that was read too long ago. */
  readonly outdated: (secret: RotatedSecret) => void
  readonly clock: Clock
}) => {
  const { store, clock } = options
  const nameOf = ({ server, user, process }: HoldingProcess, version: string): string =>
    JSON.stringify([server, user, ...(process === undefined ? [null, version] : [options.node, process])])
  const written = createLru<string, { version: string; until: number }>({ max: REMEMBERED })
  return {
    /**
     * Writes down that the version is handed out.
     * @param until when whoever gets it has to come back (ms since the epoch)
     * @returns false when another version has become current meanwhile: it must not be handed out
     */
    async hold({ secret, version, mustBeCurrent }: HeldSecret, who: HoldingProcess, until: number): Promise<boolean> {
      const holder = nameOf(who, version)
      const key = JSON.stringify([secret.tenant, secret.backend, secret.secret, holder])
      const known = written.get(key)
      if (known?.version === version && known.until >= until) return true
      const now = clock.now()
      const entry = { version, until: now + Math.ceil((until - now) * LONGER) }
      const { tenant, backend, secret: name } = secret
      await store.put({ tenant, backend, secret: name, holder, server: who.server, ...entry })
      // A grace may have ended before this was written, and not after.
      if (mustBeCurrent && (await options.currentOf(secret)) !== version) {
        options.outdated(secret)
        return false
      }
      written.set(key, entry)
      return true
    },
    /** Has given up all that it had. @param who of a name that is not used again: what is remembered of it would be taken for written */
    forget: (who: HoldingProcess & { readonly process: string }): Promise<void> => store.forget(nameOf(who, '')),
    /** Those who may still use the version. */
    async of(secret: RotatedSecret, version: string | null): Promise<SecretHolder[]> {
      return (await store.list(secret, clock.now())).filter((each) => each.version === version)
    },
  }
}
export type Holders = ReturnType<typeof createHolders>
