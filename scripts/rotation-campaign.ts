/** `npm run campaign:rotation -- [rotations] [seconds]`: the long form of `test/cluster/rotation.test.ts`, with its numbers. */
import { runRotationCampaign } from '../test/cluster/rotation-campaign.ts'

const [rotations = 300, seconds = 1200] = process.argv.slice(2).map(Number)
const report = await runRotationCampaign({
  rotations,
  seconds,
  report: (line) => {
    process.stdout.write(`${line}\n`)
  },
})
process.stdout.write(`${JSON.stringify(report, null, 2)}\n`)
process.exitCode = report.lockedOut.length + report.lost.length + report.doubled.length === 0 ? 0 : 1
