import { setTimeout as sleep } from 'node:timers/promises'
import { refuse } from '#errors'
import type { MembershipOptions } from './membership-options.ts'

/** The pause between two looks at the rows of this node's name (ms). */
const NAME_PAUSE_MS = 50

/**
 * Waits until no other daemon has the name of this node. The membership of an earlier process may still run when that was
 * killed; one that is renewed is another daemon's.
 * @throws DeputyError `start_failed`, `store_unavailable`
 */
export const awaitName = async (options: MembershipOptions): Promise<void> => {
  const { store, node, incarnation, startOf, lease, skew, monotonic } = options
  const isTaken = async (): Promise<boolean> =>
    (await store.nodes()).some(
      ({ id, about, leaseLeft }) =>
        about === node && id !== incarnation && startOf(id) !== undefined && leaseLeft + skew > 0,
    )
  for (const until = monotonic() + lease + 2 * skew; await isTaken();) {
    if (monotonic() > until)
      throw refuse('start_failed', {
        problem: `another daemon runs as the node ${node} on this store`,
        fix: 'Give each daemon a name of its own under `node` in deputy.yaml, or stop the other one.',
      })
    await sleep(NAME_PAUSE_MS)
  }
}

/** Finds the younger of the processes that have this node's name. Both sides come to the same answer: it depends only on their ids. */
export const createNameJudge = ({
  node,
  incarnation,
  startOf,
  logger,
}: Pick<MembershipOptions, 'node' | 'incarnation' | 'startOf' | 'logger'>) => {
  let hasReportedForged = false
  return (others: readonly string[]): string | undefined => {
    const mine = startOf(incarnation) ?? 0
    const forged = others.filter((id) => startOf(id) === undefined)
    if (forged.length > 0 && !hasReportedForged) {
      hasReportedForged = true
      logger.error(
        { node, rows: forged.slice(0, 10) },
        'rows of the table nodes have the name of this node and were not written by this installation; they are ignored',
      )
    }
    return others.find((id) => {
      const start = startOf(id)
      return start !== undefined && (start > mine || (start === mine && id > incarnation))
    })
  }
}
