import { createKeyedDigest, equalInConstantTime, type Secret } from '#foundation/crypto'
import type { Consent, ConsentStore } from '#foundation/store'

/** How long a consent for a client is remembered (ms). */
const LIFETIME_MS = 365 * 86_400_000

type Owner = Parameters<ConsentStore['find']>[0]

/**
 * Consents for clients, which spare the user the page. Each has a keyed digest over all that it says, so that one that
 * another program has written into the store, or has changed or moved there, is none.
 */
export interface ClientConsents {
  remember(owner: Owner, scopes: readonly string[], at: number): Promise<void>
  /** Undefined where there is none, or Deputy has not written it. */
  find(owner: Owner): Promise<Consent | undefined>
}

export const createClientConsents = (store: Pick<ConsentStore, 'find' | 'put'>, key: Secret): ClientConsents => {
  const digest = createKeyedDigest(key)
  const proofOf = ({ tenant, user, server, downstream, asked, granted, at, until }: Consent): string =>
    digest('client-consent', tenant, user, server, downstream, JSON.stringify([asked, granted, at, until]))
  return {
    async remember(owner, scopes, at) {
      const consent = { ...owner, asked: scopes, granted: scopes, at, until: at + LIFETIME_MS }
      await store.put({ ...consent, proof: proofOf(consent) })
    },
    async find(owner) {
      const found = await store.find(owner)
      if (found?.proof === undefined) return undefined
      return equalInConstantTime(found.proof, proofOf(found)) ? found : undefined
    },
  }
}
