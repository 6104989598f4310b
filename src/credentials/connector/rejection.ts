import { equalInConstantTime, type Secret } from '#foundation/crypto'

/** A credential that its service refused (401), as a server reports it. */
export interface RejectedCredential {
  readonly token: Secret
  /** Whether this node has just found that it had handed out this credential for exactly this request. */
  readonly handed?: boolean
  /** Whether this node had obtained it because of a report, a moment ago: a fresh credential is refused as well. */
  readonly renewed?: boolean
}

/** A report this soon after a renewal says that a fresh credential is refused as well (ms). */
const FRESH_MS = 60_000
/** One renewal for a refused credential in this time (ms): reports cannot make Deputy renew without end. */
export const REJECTION_PAUSE_MS = 600_000

/**
 * What a report leads to. `renew`: another credential is obtained. `end`: a fresh one was refused too. `keep`: the report
 * comes too soon after a renewal to cause another, and too late to speak of a fresh credential.
 * @param renewedAt of the last renewal that a report caused (ms since the epoch)
 */
export const judgeRejection = (renewedAt: number | undefined, now: number): 'renew' | 'end' | 'keep' => {
  const age = renewedAt === undefined ? Infinity : Math.abs(now - renewedAt)
  return age >= REJECTION_PAUSE_MS ? 'renew' : age <= FRESH_MS ? 'end' : 'keep'
}

/** Whether the report is about this credential. */
export const isAbout = (rejected: RejectedCredential | undefined, token: Secret): boolean =>
  rejected !== undefined && equalInConstantTime(rejected.token.reveal(), token.reveal())
