import type { Clock } from '#clock'
import type { DeputyError } from '#errors'
import type { ClusterStore, Position, RevocationChanges } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import type { Incarnations } from './incarnation.ts'

/** Why a node compares the store with what it knows. */
export interface LookAgain {
  /** Undefined where only the server is another process. */
  readonly problem: string | undefined
  /** The last change that the store has. */
  readonly last: Position
  /** When the server started, by its clock, less the skew (ms since the epoch): what was written before it is older. */
  readonly since: number
}

export interface MembershipOptions {
  readonly store: ClusterStore
  readonly node: string
  /** Tells this process from the one before it and from one that was given the same name by mistake. */
  readonly incarnation: string
  /** When an incarnation of this node has started; undefined for a row that this installation has not written. */
  readonly startOf: (incarnation: string) => number | undefined
  /** Proves what this process acknowledges, and that another has acknowledged it itself. */
  readonly acknowledgements: Pick<Incarnations, 'prove' | 'isProven'>
  /** ms. */
  readonly lease: number
  /** ms by which clocks may differ, in time and in what they count as one lease. */
  readonly skew: number
  /** Applies the changes: after it has returned this node hands out nothing that they cover. */
  readonly apply: (changes: RevocationChanges) => Promise<void> | void
  /**
   * Called when the store may have lost commits. The node has no lease until it resolves: what this node knows and the store does
   * not is written by then. Rejects where that was not possible; it is called again then.
   */
  readonly lookAgain: (found: LookAgain) => Promise<void>
  /** Called once, when a younger process has this node's name: this one has no lease any more. */
  readonly replaced: (error: DeputyError) => void
  /** Called after each renewal: the store has answered. */
  readonly renewed?: () => void
  readonly clock: Clock
  /** Never goes back, and goes on while the process is stopped (ms). */
  readonly monotonic: () => number
  /** A text that was never drawn before. */
  readonly newToken: () => string
  readonly logger: Logger
}
