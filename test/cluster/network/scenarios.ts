/** What happens to hosts, cables and servers while the nodes are under load; see docs/cluster.md for what follows from each. */
import { rm, writeFile } from 'node:fs/promises'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import type { HostedCluster, HostedNode } from './nodes.ts'

export interface Stage extends HostedCluster {
  /** Lets the load revoke at this node no more, or again. */
  spare(node: HostedNode, spared: boolean): void
  /** Resolves when a node answers that it is ready. */
  ready(node: HostedNode): Promise<void>
  /** The node's daemon is expected to end. */
  retire(node: HostedNode): void
}

export interface Scenario {
  readonly name: string
  readonly synchronous: boolean
  /** Whether the servers may lose what was confirmed: then it has to be noticed, told, and written again. */
  readonly loses?: boolean
  run(stage: Stage): Promise<void>
}

/** A node is spoiled for a time, and healed. */
const spoil = async (
  stage: Stage,
  node: HostedNode,
  { how, milliseconds }: { how: () => Promise<void>; milliseconds: number },
): Promise<void> => {
  stage.spare(node, true)
  await how()
  await sleep(milliseconds)
  await node.host.heal()
  await stage.ready(node)
  stage.spare(node, false)
  await sleep(500)
}

/** The primary vanishes, and the standby takes its place and its address. @param behind ms of commits that do not reach the standby */
const failOver = async ({ postgres, ...stage }: Stage, { behind }: { behind: number }): Promise<void> => {
  await sleep(2000)
  if (behind > 0) {
    // What is committed now does not reach the standby.
    await postgres.second.dropFrom(postgres.first.address)
    await sleep(behind)
  }
  await postgres.first.unplug()
  await postgres.kill(postgres.first)
  await postgres.second.heal()
  await sleep(300)
  await postgres.promote()
  for (const node of stage.nodes) await stage.ready(node)
  await sleep(5000)
}

const TIMES = [300, 1500, 3000]

export const SCENARIOS: readonly Scenario[] = [
  {
    name: 'a cable of a node is pulled',
    synchronous: false,
    async run(stage) {
      for (const milliseconds of TIMES)
        for (const node of stage.nodes) await spoil(stage, node, { how: () => node.host.unplug(), milliseconds })
    },
  },
  {
    name: 'one direction is dropped',
    synchronous: false,
    async run(stage) {
      for (const milliseconds of TIMES)
        for (const [at, node] of stage.nodes.entries())
          await spoil(stage, node, {
            how: () =>
              at % 2 === 0 ? node.host.dropFrom(stage.postgres.address) : node.host.dropTo(stage.postgres.address),
            milliseconds,
          })
    },
  },
  {
    name: 'every fifth packet is lost',
    synchronous: false,
    async run(stage) {
      for (const node of stage.nodes) await spoil(stage, node, { how: () => node.host.lose(0.2), milliseconds: 4000 })
      await Promise.all(stage.nodes.map(({ host }) => host.lose(0.05)))
      await sleep(5000)
      for (const node of stage.nodes) await node.host.heal()
    },
  },
  {
    name: 'the primary fails, its standby is synchronous',
    synchronous: true,
    run: (stage) => failOver(stage, { behind: 0 }),
  },
  {
    name: 'the primary fails, its standby is asynchronous and behind',
    synchronous: false,
    loses: true,
    run: (stage) => failOver(stage, { behind: 400 }),
  },
  {
    name: 'the old primary lives on behind a cut, its standby is synchronous',
    synchronous: true,
    async run({ postgres, ...stage }) {
      await sleep(2000)
      await postgres.first.unplug()
      await sleep(300)
      await postgres.promote()
      for (const node of stage.nodes) await stage.ready(node)
      await sleep(2000)
      // The cable is mended, and the old one is there again, without the address.
      await postgres.first.heal()
      await sleep(3000)
    },
  },
  {
    name: 'a second node takes a name',
    synchronous: false,
    async run(stage) {
      await sleep(1000)
      const node = stage.nodes[2]!
      stage.spare(node, true)
      stage.retire(node)
      const ended = once(node.daemon.process, 'exit')
      // While the first cannot be heard, its name is free.
      await node.host.unplug()
      await sleep(2000)
      const twin = await stage.twinOf(node, stage.network.hosts['redis']!)
      await node.host.heal()
      const [code] = (await ended) as [number | null]
      if (code !== 8) throw new Error(`the older of two nodes with one name ended with ${code}, not with 8`)
      await sleep(2000)
      await twin.stop()
    },
  },
  {
    name: 'the server is frozen',
    synchronous: false,
    async run(stage) {
      for (const milliseconds of TIMES) {
        stage.postgres.signal(stage.postgres.first, 'SIGSTOP')
        await sleep(milliseconds)
        stage.postgres.signal(stage.postgres.first, 'SIGCONT')
        for (const node of stage.nodes) await stage.ready(node)
        await sleep(500)
      }
    },
  },
  {
    name: 'the disk is full',
    synchronous: false,
    async run(stage) {
      const ballast = join(stage.postgres.disk, 'ballast')
      for (const milliseconds of TIMES) {
        // As much as there is room for; a chunk that fits no more ends it.
        for (let at = 0; at < 100; at += 1)
          if (
            await writeFile(`${ballast}-${at}`, Buffer.alloc(8 * 1_048_576, 1)).then(
              () => false,
              () => true,
            )
          )
            break
        await sleep(milliseconds)
        for (let at = 0; at < 100; at += 1) await rm(`${ballast}-${at}`, { force: true })
        // Postgres ends by itself where it cannot write its log ahead; then it is started as a service manager would.
        await stage.postgres.restartIfEnded(stage.postgres.first)
        for (const node of stage.nodes) await stage.ready(node)
        await sleep(500)
      }
    },
  },
  {
    name: 'too few connections are left',
    synchronous: false,
    async run(stage) {
      const others: Client[] = []
      try {
        for (let at = 0; at < 100; at += 1) {
          const client = new Client({
            host: stage.postgres.address,
            port: 5432,
            user: 'deputy',
            password: stage.postgres.password,
            database: 'postgres',
          })
          client.on('error', () => undefined)
          if (
            await client.connect().then(
              () => false,
              () => true,
            )
          )
            break
          others.push(client)
        }
        // A node that loses its connections now does not get them back at once.
        await stage.postgres
          .query(
            stage.postgres.first,
            `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${stage.database}' and random() < 0.5`,
          )
          .catch(() => [])
        await sleep(4000)
      } finally {
        await Promise.all(others.map((client) => client.end().catch(() => undefined)))
      }
      for (const node of stage.nodes) await stage.ready(node)
      await sleep(2000)
    },
  },
]
