/** `npm run campaign:network -- [part of a scenario's name] [users]`: nodes on a real network whose cables are pulled; needs root. */
import { cannotBuild } from '../test/cluster/network/hosts.ts'
import { holds, runScenario } from '../test/cluster/network/campaign.ts'
import { SCENARIOS } from '../test/cluster/network/scenarios.ts'
import { canCluster } from '../test/support/cluster.ts'

const [part = '', users = '400'] = process.argv.slice(2)
const reason = canCluster() ? cannotBuild() : 'Postgres or Redis is missing'
if (reason !== undefined) {
  process.stderr.write(`\n*** NOT RUN: no network of hosts can be made here: ${reason}. ***\n\n`)
  process.exit(2)
}
let failed = 0
for (const scenario of SCENARIOS.filter(({ name }) => name.includes(part))) {
  const report = await runScenario(scenario, { users: Number(users) })
  const good = holds(scenario, report)
  if (!good) failed += 1
  process.stdout.write(`${good ? 'holds ' : 'BROKEN'} ${JSON.stringify(report)}\n`)
}
process.stdout.write(`${failed} broken\n`)
process.exitCode = failed === 0 ? 0 : 1
