import type { CallFailure } from '#credentials/provider'
import type { Grant, GrantStatus } from '#foundation/store'

/** How a refresh went. */
export type RefreshEvent = 'answered' | CallFailure

/** What a refresh finds: `doubtful` where the answer to an earlier one is not known. */
export type Certainty = 'sure' | 'doubtful'

export const certaintyOf = ({ status }: Pick<Grant, 'status'>): Certainty => (status === 'active' ? 'sure' : 'doubtful')

/**
 * The one rule of what ends a grant: the provider says that this grant is over (`denied`: `invalid_grant`, in any form), and nothing else does. A
 * refusal that does not name the grant concerns the client or the admin (a wrong secret, a disabled realm), an answer of a gateway
 * is not the provider's, and an answer that never came proves nothing.
 *
 * A provider that rotates refresh tokens may have ended the token that we hold where its answer is not known. That doubt is written down before the request
 * leaves (threat 21), and stays until an answer comes: the token at hand is tried again, after growing pauses. If the provider had rotated,
 * its answer is `invalid_grant` (RFC 9700 section 4.14.2); if not, the grant stays.
 */
export const whatBecomes = (
  from: Certainty,
  event: RefreshEvent,
  { rotates }: { readonly rotates: boolean },
): Extract<GrantStatus, 'active' | 'uncertain' | 'reconnect_required'> => {
  switch (event) {
    case 'denied':
      return 'reconnect_required'
    case 'answered':
      return 'active'
    case 'lost':
    case 'unverified':
      return rotates ? 'uncertain' : 'active'
    case 'challenged':
    case 'refused':
    case 'not_sent':
      return rotates && from === 'doubtful' ? 'uncertain' : 'active'
  }
}

/** The provider has said that the grant is over. */
export const isEnded = ({ status }: Pick<Grant, 'status'>): boolean => status === 'reconnect_required'

/**
 * The first pause in doubt, and the longest (ms): a rotated token that is tried once an hour finds an answer, and
 * floods no provider.
 */
const [FIRST_PAUSE_MS, MAX_PAUSE_MS] = [5000, 3_600_000]

/**
 * The pause of a grant in doubt after a try whose answer is not known (ms).
 * @param tries with the token at hand after the first one; the first of them needs no pause
 */
export const pauseInDoubt = (tries: number): number =>
  tries === 0 ? 0 : Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 3 ** (tries - 1))
