/** Runs a scenario under load, and counts what broke a promise. */
import { setTimeout as sleep } from 'node:timers/promises'
import { startChecker } from '../checker.ts'
import { startHostedCluster, type HostedNode } from './nodes.ts'
import type { Scenario } from './scenarios.ts'

export interface ScenarioReport {
  readonly scenario: string
  readonly exchanges: number
  readonly revocations: number
  /** Credentials handed out after a confirmed revocation, or so late that they were written after it. */
  readonly served: number
  /** Acknowledged exchanges whose records are neither there nor named as lost. */
  readonly recordsLost: number
  /** Acknowledged exchanges whose records the store lost, as `audit verify` says. */
  readonly recordsNamed: number
  readonly chainsHold: boolean
  /** Users who were not revoked and have to connect again. */
  readonly grantsLost: number
  /** Longest time of a revocation at a node that was well all the while, ms. */
  readonly longestRevocation: number
  /** Whether the nodes say that the store has lost commits. */
  readonly lossTold: boolean
  /** What they say of it. */
  readonly losses: unknown
  readonly problems: readonly string[]
}

const READY_LIMIT = 30_000

const whenReady = async (node: HostedNode): Promise<void> => {
  const until = performance.now() + READY_LIMIT
  while ((await node.ready().catch(() => undefined))?.status !== 200) {
    if (performance.now() > until)
      throw new Error(
        `${node.host.name} is not ready after ${READY_LIMIT / 1000} s:\n${node.daemon.output().slice(-1500)}`,
      )
    await sleep(50)
  }
}

/** @param users each is revoked at most once */
export const runScenario = async (scenario: Scenario, { users }: { users: number }): Promise<ScenarioReport> => {
  const cluster = await startHostedCluster({ synchronous: scenario.synchronous, users })
  const spared = new Set<HostedNode>()
  const sparedUntil = new Map<HostedNode, number>()
  const retired = new Set<HostedNode>()
  const problems: string[] = []
  let longest = 0
  try {
    const checker = startChecker({
      nodes: cluster.nodes,
      users: cluster.users,
      // Some are left who have to be served at the end.
      revocations: users - 40,
      able: () => cluster.nodes.filter((node) => !spared.has(node)),
      onRevoked: (began, ended, node) => {
        if (!spared.has(node) && (sparedUntil.get(node) ?? 0) < began) longest = Math.max(longest, ended - began)
      },
    })
    await scenario
      .run({
        ...cluster,
        spare: (node, is) => {
          if (is) spared.add(node)
          else spared.delete(node)
          sparedUntil.set(node, performance.now())
        },
        ready: whenReady,
        retire: (node) => void retired.add(node),
      })
      .catch((error: unknown) => problems.push(String(error)))
    await checker.stop()
    const { confirmed, counts, acknowledged, active } = checker
    const living = cluster.nodes.filter((node) => !retired.has(node))
    let [served, grantsLost] = [counts.servedAfter + counts.answeredAfter, 0]
    for (const node of living) {
      await whenReady(node).catch((error: unknown) => problems.push(String(error)))
      for (const user of confirmed.keys()) if ((await node.mint(user)).status === 200) served += 1
    }
    for (const user of active) {
      const { body } = await living[0]!.exchange(user)
      if (body['reason'] === 'reconnect_required' || body['reason'] === 'not_connected') grantsLost += 1
    }
    const recorded = new Set(
      (
        await cluster.postgres.query(
          cluster.postgres.primary(),
          "select id from audit_records where event = 'token.exchange' and outcome = 'issued'",
          cluster.database,
        )
      ).map(({ id }) => String(id)),
    )
    const missing = acknowledged.filter((id) => !recorded.has(id)).length
    const { body: verified } = await living[0]!.admin('/audit/verify')
    const { body: losses } = await living[0]!.admin('/losses')
    const told = Array.isArray(losses) && losses.length > 0
    return {
      scenario: scenario.name,
      exchanges: counts.exchanges,
      revocations: confirmed.size,
      served,
      recordsLost: told ? 0 : missing,
      recordsNamed: told ? missing : 0,
      chainsHold: verified['ok'] === true,
      grantsLost,
      longestRevocation: Math.round(longest),
      lossTold: told,
      losses,
      problems,
    }
  } finally {
    await cluster.close()
  }
}

/** Whether it showed what it has to: nothing served, nothing lost in silence. */
export const holds = (scenario: Scenario, report: ScenarioReport): boolean =>
  report.served === 0 &&
  report.recordsLost === 0 &&
  report.grantsLost === 0 &&
  report.problems.length === 0 &&
  report.lossTold === (scenario.loses === true) &&
  (report.chainsHold || scenario.loses === true)
