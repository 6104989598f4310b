import type { Secret } from '#foundation/crypto'
import type { RememberedSignIn } from './attempt.ts'

/** A user who has signed in at the tenant's identity provider. */
export interface SignedIn {
  readonly tenant: string
  readonly user: string
  /** The display name, where the tenant's file maps a claim to it. */
  readonly display: string | undefined
  readonly issuer: string
  readonly groups: readonly string[]
  readonly claims: Readonly<Record<string, unknown>>
  /** Absent where the provider is no OpenID provider. */
  readonly idToken: Secret | undefined
}

/** The sign-in as a sealed step remembers it. @param signedInAt ms since the epoch */
export const rememberSignIn = (
  { user, display, issuer, groups, claims, idToken }: SignedIn,
  signedInAt: number,
): RememberedSignIn => ({
  user,
  ...(display === undefined ? {} : { display }),
  issuer,
  groups: [...groups],
  claims: { ...claims },
  ...(idToken === undefined ? {} : { idToken: idToken.reveal() }),
  signedInAt,
})
