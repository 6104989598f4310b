import type { Clock, Random } from '#clock'
import { randomText } from '#foundation/crypto'

/** Where the status of a minted token stands: a bit of a list. */
export interface TokenStatus {
  readonly list: string
  readonly index: number
}

/** Bits of one list: with as many tokens as that in one period, the next list begins early. */
export const STATUS_LIST_BITS = 2 ** 20
/** A list is at most half full, so that a free index is found by trying. */
const FULL = STATUS_LIST_BITS / 2

/** The name of a list says whose it is and when it began, which is enough to find its tokens in the audit log. */
export const readListName = (name: string): { node: string; startedAt: number } | undefined => {
  const parts = /^([a-z0-9][a-z0-9._-]{0,63})~([0-9a-z]{6,11})~([A-Za-z0-9_-]{8})$/.exec(name)
  return parts === null ? undefined : { node: parts[1]!, startedAt: Number.parseInt(parts[2]!, 36) }
}

/**
 * Gives each minted token an index of its own, at random, so that it says nothing about its order or number
 * (draft-ietf-oauth-status-list, section 13.2). Nothing is kept: the record that the token was issued has it, and that is
 * durable before the token leaves.
 * @param options.period ms for which a list takes tokens
 */
export const createStatusIndex = (options: {
  node: string
  period: number
  clock: Clock
  random: Random
}): (() => TokenStatus) => {
  let list = { name: '', startedAt: -Infinity, taken: new Set<number>() }
  return () => {
    const now = options.clock.now()
    if (now - list.startedAt >= options.period || list.taken.size >= FULL) {
      list = {
        name: `${options.node}~${now.toString(36)}~${randomText(options.random, 6)}`,
        startedAt: now,
        taken: new Set(),
      }
    }
    for (;;) {
      const index = Buffer.from(options.random.bytes(4)).readUInt32BE() % STATUS_LIST_BITS
      if (list.taken.has(index)) continue
      list.taken.add(index)
      return { list: list.name, index }
    }
  }
}
