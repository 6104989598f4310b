import { type Fingerprint, Secret } from '#foundation/crypto'

/** An order of an admin that holds until it is lifted: a user is disabled, a tenant is frozen. */
export interface LastingOrder {
  readonly tenant: string
  readonly user?: string
  /** When it was given (ms since the epoch); an order that is given again while it holds keeps its time. */
  readonly at: number
}

/**
 * Proves in an audit record that the daemon has lifted this very order. The chain of the log needs no key, so who can write the
 * store can append a record that says so; without the key of the installation there is no proof of it.
 */
export const liftProofOf = (fingerprint: Fingerprint, { tenant, user, at }: LastingOrder): string =>
  // No token has a line break in it, so no fingerprint of one is a proof.
  fingerprint(new Secret(`lifted order\n${JSON.stringify([tenant, user ?? null, at])}`))
