/**
 * Load on nodes, revocations in the middle of it, and what is counted: credentials handed out after a revocation of theirs
 * was confirmed (promise 4), and answers that were given, whose records have to be there (promise 3).
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { within, type AskedNode } from '../support/cluster.ts'

export interface CheckerOptions<Node extends AskedNode> {
  readonly nodes: readonly Node[]
  readonly users: readonly string[]
  readonly revocations: number
  /** Nodes that are asked to revoke. */
  readonly able: () => readonly Node[]
  /** Rest of each client between two requests (ms); default: none. */
  readonly rest?: number
  /** Called for each confirmed revocation with the times of the command and of its return (ms, of `performance`), and the node that was asked last. */
  readonly onRevoked?: (began: number, ended: number, node: Node) => void
}

export interface Checker {
  readonly confirmed: ReadonlyMap<string, number>
  /** Correlation ids of the answers with a credential. */
  readonly acknowledged: readonly string[]
  /** Users for whom a refresh was asked. */
  readonly touched: ReadonlySet<string>
  readonly counts: { exchanges: number; servedAfter: number; answeredAfter: number }
  /** Users whose credentials have been asked for and not revoked. */
  readonly active: ReadonlySet<string>
  /** Resolves when all revocations are confirmed, or `stop` was called. */
  readonly revoked: Promise<void>
  /** Ends the load, and resolves when no request is under way. */
  stop(): Promise<void>
}

/** Users whose credentials are asked for at any time. */
export const WINDOW = 24
const WORKERS_A_NODE = 3
const REVOKERS = 4
/** An answer that was on its way when the revocation was confirmed has arrived by then (ms). */
const ON_ITS_WAY = 250

export const startChecker = <Node extends AskedNode>(options: CheckerOptions<Node>): Checker => {
  const { users, nodes, rest = 0 } = options
  const active = new Set<string>()
  const confirmed = new Map<string, number>()
  const touched = new Set<string>()
  const acknowledged: string[] = []
  const counts = { exchanges: 0, servedAfter: 0, answeredAfter: 0 }
  let [running, next] = [true, 0]
  const admit = (): void => {
    while (active.size < WINDOW && next < users.length) active.add(users[next++]!)
  }

  const load = async (node: Node, worker: number): Promise<void> => {
    for (let turn = worker; running; turn += 1) {
      if (rest > 0) await sleep(rest)
      // Mostly those who are served, and some of whom everybody should know that they are not.
      const pool = turn % 4 === 0 && confirmed.size > 0 ? [...confirmed.keys()].slice(-2 * WINDOW) : [...active]
      const user = pool[Math.floor(Math.random() * pool.length)]
      if (user === undefined) {
        await sleep(5)
        continue
      }
      const before = confirmed.get(user)
      const refreshing = turn % 3 === 0
      if (refreshing) touched.add(user)
      const answer = await (refreshing ? node.exchange(user) : node.mint(user)).catch(() => undefined)
      counts.exchanges += 1
      if (answer?.status !== 200) {
        if (answer === undefined) await sleep(20)
        continue
      }
      acknowledged.push(String(answer.headers['x-correlation-id']))
      const since = confirmed.get(user)
      if (before !== undefined) counts.servedAfter += 1
      else if (since !== undefined && performance.now() - since > ON_ITS_WAY) counts.answeredAfter += 1
    }
  }

  const revoke = async (): Promise<void> => {
    while (running && confirmed.size < options.revocations) {
      admit()
      const user = [...active][Math.floor(Math.random() * active.size)]
      if (user === undefined) return
      active.delete(user)
      const began = performance.now()
      for (let done = false; !done && running;) {
        const able = options.able()
        const node = able[Math.floor(Math.random() * able.length)]
        const answer =
          node === undefined
            ? undefined
            : await within(
                30_000,
                node.admin('/revoke', { scope: { kind: 'user', tenant: 'acme', user } }).catch(() => undefined),
              )
        done = answer?.status === 200
        if (!done) {
          await sleep(50)
          continue
        }
        const now = performance.now()
        confirmed.set(user, now)
        options.onRevoked?.(began, now, node!)
      }
    }
  }

  admit()
  const loads = nodes.flatMap((node) => Array.from({ length: WORKERS_A_NODE }, (_, worker) => load(node, worker)))
  const revoked = Promise.all(Array.from({ length: REVOKERS }, () => revoke())).then(() => undefined)
  return {
    confirmed,
    acknowledged,
    touched,
    counts,
    active,
    revoked,
    async stop() {
      running = false
      await Promise.all([...loads, revoked])
    },
  }
}
