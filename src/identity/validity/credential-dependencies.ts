import type { ClientSignIn } from '#identity/client'
import { clientAncestors } from '#identity/subject'

/** What a request, a cached credential or a minted token relies on; the facts that a revocation can cover. */
export interface CredentialDependencies {
  readonly tenant: string
  readonly user?: string | undefined
  readonly server: string
  /** Every downstream that it is for; empty where it is for none in particular. */
  readonly downstreams: readonly string[]
  readonly provider?: string | undefined
  readonly grant?: string | undefined
  /** The ids of the credential itself, of the subject token, and of all that it descends from. */
  readonly tokens: readonly string[]
  /** When the authority was given: the issue time of the subject token, or the sign-in (ms since the epoch). */
  readonly since: number
  /**
   * Of what this installation obtained: the number of the last revocation that was known when that began
   * (`RevocationIndex.number`). A later one covers it also where a clock was set back in between.
   */
  readonly known?: number | undefined
}

/** What a client session relies on, and all tokens of it. */
export const dependenciesOfSignIn = ({
  id,
  tenant,
  user,
  client,
  server,
  ancestors,
  signedInAt,
}: ClientSignIn): CredentialDependencies => ({
  tenant,
  user,
  server,
  downstreams: [],
  tokens: [...clientAncestors(client, id), ...ancestors],
  since: signedInAt,
})
