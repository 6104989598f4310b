import { refuse } from '#errors'
import { createLru } from '#foundation/lru'

const LOGINS_A_MINUTE = 10

/**
 * Bounds the sign-ins that one Unix user begins: each is a record in the store, or a request to the identity provider.
 */
export const createLoginLimit = () => {
  const begun = createLru<number, number>({ max: 10_000, ttl: 60_000 })
  /** @throws DeputyError `rate_limited` */
  return (uid: number): void => {
    const recent = begun.get(uid) ?? 0
    if (recent >= LOGINS_A_MINUTE) throw refuse('rate_limited', { what: 'sign-in links', seconds: 60 })
    begun.set(uid, recent + 1)
  }
}
