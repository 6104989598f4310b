/** `npm run campaign:cluster -- [revocations] [seconds]`: the long form of `test/cluster/campaign.test.ts`, with its numbers. */
import { runCampaign } from '../test/cluster/campaign.ts'

const [revocations = 10_000, seconds = 1800] = process.argv.slice(2).map(Number)
const report = await runCampaign({
  revocations,
  seconds,
  lease: 2000,
  skew: 500,
  report: (line) => {
    process.stdout.write(`${line}\n`)
  },
})
process.stdout.write(`${JSON.stringify(report, null, 2)}\n`)
process.exitCode =
  report.servedAfter + report.answeredAfter + report.recordsLost === 0 &&
  report.chainsHold &&
  report.revocations >= revocations
    ? 0
    : 1
