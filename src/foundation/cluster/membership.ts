import type { Clock } from '#clock'
import type { Position } from '#foundation/store'

/** Writes a change of the standing; may be called again with the same effect. */
export type WriteChange = () => Promise<Position>

/** Whether this node may hand out anything, and whether the others know what this one has revoked (promise 4). */
export interface Membership {
  /** @throws DeputyError `membership_lost` when it is not sure that this node knows every revocation */
  assertHeld(): void
  /** A moment that no node's clock has reached by more than the allowed skew (ms since the epoch). */
  epoch(): Promise<number>
  /**
   * Writes a change of the standing, again where the store does not answer: for as long as a node that is gone is waited for.
   * @throws DeputyError `store_unavailable`
   */
  record(write: WriteChange): Promise<Position>
  /**
   * Resolves when every other node has applied the change, or its lease has surely ended. A change that the store loses
   * meanwhile is written again.
   * @returns who was waited for
   */
  confirm(change: Position, write: WriteChange): Promise<ClusterAcknowledgement>
  /** Resolves when this node knows every change that was committed before it was called. @throws DeputyError `store_unavailable`, `membership_lost` */
  catchUp(): Promise<void>
  /** `store`: what keeps the store from confirming renewals; null: nothing. */
  status(): { node: string; held: boolean; problem: string | null; store: string | null }
  close(): Promise<void>
}

export interface ClusterAcknowledgement {
  readonly acknowledged: number
  readonly expired: readonly string[]
  readonly milliseconds: number
}

/** The one node of an embedded store: no other can know less than it does. */
export const onlyNode = (node: string, clock: Clock): Membership => ({
  assertHeld() {},
  epoch: () => Promise.resolve(clock.now()),
  record: (write) => write(),
  confirm: () => Promise.resolve({ acknowledged: 0, expired: [], milliseconds: 0 }),
  catchUp: () => Promise.resolve(),
  status: () => ({ node, held: true, problem: null, store: null }),
  close: () => Promise.resolve(),
})
