/**
 * Revocations under load while nodes are cut off, slowed down, put to sleep and killed. What it counts is promise 4:
 * credentials that were handed out after a revocation of theirs had been confirmed. There must be none.
 */
import { Client } from 'pg'
import { startChecker, WINDOW } from './checker.ts'
import { startCluster, within, type ClusterNode } from '../support/cluster.ts'

export interface CampaignOptions {
  readonly revocations: number
  /** It ends then, whatever it has reached. */
  readonly seconds: number
  readonly lease: number
  readonly skew: number
  /** Rest of each client between two requests (ms); default: none. */
  readonly rest?: number
  readonly report?: (line: string) => void
}

export interface CampaignReport {
  readonly revocations: number
  /** Answers with a credential to requests that were sent after the confirmation. */
  readonly servedAfter: number
  /** Answers with a credential that came so late after the confirmation that they were written after it. */
  readonly answeredAfter: number
  readonly exchanges: number
  readonly disturbances: Readonly<Record<string, number>>
  /** ms from the command to its return. */
  readonly time: { readonly undisturbed: Quantiles; readonly disturbed: Quantiles; readonly longest: number }
  readonly refreshes: { readonly sent: number; readonly needed: number }
  /** Acknowledged exchanges without a record. */
  readonly recordsLost: number
  readonly records: number
  readonly chainsHold: boolean
}
export interface Quantiles {
  readonly count: number
  readonly p50: number
  readonly p99: number
}

const quantiles = (times: readonly number[]): Quantiles => {
  const sorted = times.toSorted((x, y) => x - y)
  const at = (part: number): number =>
    Math.round((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0) * 10) / 10
  return { count: sorted.length, p50: at(0.5), p99: at(0.99) }
}
const sleep = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, milliseconds)
  })
const between = (low: number, high: number): number => low + Math.random() * (high - low)

export const runCampaign = async (options: CampaignOptions): Promise<CampaignReport> => {
  const cluster = await startCluster({
    linesOnThreads: true,
    lease: `${options.lease}ms`,
    skew: `${options.skew}ms`,
    settings: { log: { level: 'info' } },
  })
  const users = Array.from({ length: options.revocations + WINDOW }, (_, at) => `user-${at}`)
  const times = { undisturbed: [] as number[], disturbed: [] as number[] }
  const disturbances: Record<string, number> = {}
  const disturbed = new Set<ClusterNode>()
  let [running, calmSince] = [true, 0]
  const over = options.lease + options.skew
  const ways: Readonly<Record<string, (node: ClusterNode) => Promise<void>>> = {
    async 'cut off from Postgres'(node) {
      node.toPostgres.cut()
      await sleep(between(100, 2 * over))
      node.toPostgres.heal()
    },
    async 'Postgres stalled, all of it late'(node) {
      node.toPostgres.stall()
      await sleep(between(100, 2 * over))
      node.toPostgres.heal()
    },
    async 'Postgres slow'(node) {
      node.toPostgres.delay(between(10, options.lease / 2))
      await sleep(between(500, over))
      node.toPostgres.heal()
    },
    async asleep(node) {
      node.daemon.process.kill('SIGSTOP')
      await sleep(between(50, 2 * over))
      node.daemon.process.kill('SIGCONT')
    },
    async killed(node) {
      await node.daemon.stop('SIGKILL')
      await sleep(between(0, over))
      await node.daemon.start()
    },
    async 'cut off from Redis'(node) {
      node.toRedis.cut()
      await sleep(between(100, over))
      node.toRedis.heal()
    },
  }
  const disturb = async (): Promise<void> => {
    while (running) {
      await sleep(between(500, 1500))
      const calm = cluster.nodes.filter((node) => !disturbed.has(node))
      const node = calm[Math.floor(Math.random() * calm.length)]!
      const [name, work] = Object.entries(ways)[Math.floor(Math.random() * Object.keys(ways).length)]!
      disturbed.add(node)
      disturbances[name] = (disturbances[name] ?? 0) + 1
      await work(node)
      // It may revoke again when it knows all that there is.
      for (
        let at = 0;
        at < 200 &&
        running &&
        (
          await within(
            2000,
            node.ready().catch(() => undefined),
          )
        )?.status !== 200;
        at += 1
      )
        await sleep(50)
      disturbed.delete(node)
      calmSince = performance.now()
    }
  }

  try {
    await cluster.give(users)
    // Everybody has signed in before anything is revoked: a later sign-in would be another matter.
    for (const user of users) await cluster.subjects.of(user)
    const checker = startChecker({
      nodes: cluster.nodes,
      users,
      revocations: options.revocations,
      ...(options.rest === undefined ? {} : { rest: options.rest }),
      able: () => cluster.nodes.filter((node) => !disturbed.has(node)),
      onRevoked: (began, ended) =>
        times[disturbed.size === 0 && calmSince < began ? 'undisturbed' : 'disturbed'].push(ended - began),
    })
    const { confirmed, counts, acknowledged, touched } = checker
    const telling = setInterval(() => {
      options.report?.(
        `${confirmed.size} of ${options.revocations} revocations, ${counts.exchanges} exchanges, ${counts.servedAfter + counts.answeredAfter} served after one`,
      )
    }, 10_000)
    const disturbing = disturb()
    await within(options.seconds * 1000, checker.revoked)
    // Once more in peace: whoever has come back from anything must know everything.
    running = false
    await Promise.all([checker.stop(), disturbing])
    clearInterval(telling)
    for (const node of cluster.nodes) {
      for (let at = 0; at < 200 && (await node.ready().catch(() => undefined))?.status !== 200; at += 1)
        await sleep(100)
      if (node.daemon.process.exitCode !== null)
        throw new Error(`the node ${node.name} ended by itself:\n${node.daemon.output().slice(-4000)}`)
      for (const user of [...confirmed.keys()].slice(-200))
        if ((await node.mint(user)).status === 200) counts.servedAfter += 1
    }
    const client = new Client({
      host: '127.0.0.1',
      port: cluster.postgres.port,
      user: 'deputy',
      password: cluster.postgres.password,
      database: cluster.database,
    })
    await client.connect()
    const recorded = new Set(
      (
        await client.query<{ id: string }>(
          "select id from audit_records where event = 'token.exchange' and outcome = 'issued'",
        )
      ).rows.map(({ id }) => id),
    )
    await client.end()
    const { body: verified } = await cluster.nodes[0]!.admin('/audit/verify')
    return {
      revocations: confirmed.size,
      ...counts,
      disturbances,
      time: {
        undisturbed: quantiles(times.undisturbed),
        disturbed: quantiles(times.disturbed),
        longest: Math.round(Math.max(0, ...times.undisturbed, ...times.disturbed)),
      },
      refreshes: { sent: cluster.provider.refreshes.length, needed: touched.size },
      records: recorded.size,
      recordsLost: acknowledged.filter((id) => !recorded.has(id)).length,
      chainsHold: verified['ok'] === true,
    }
  } finally {
    running = false
    await cluster.close()
  }
}
