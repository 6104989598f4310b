/** `npm run campaign:configuration -- [cases] [served] [seed]`: the long form of `test/config/broken-folders.test.ts`. */
import { runConfigurationCampaign } from '../test/config/broken-folders.ts'

const [cases = 5000, serve = 200, seed = Date.now() % 1_000_000] = process.argv.slice(2).map(Number)
process.stdout.write(`seed ${seed}\n`)
const report = await runConfigurationCampaign({
  seed,
  cases,
  serve,
  report: (line) => {
    process.stdout.write(`${line}\n`)
  },
})
process.stdout.write(`${JSON.stringify(report, null, 2)}\n`)
process.exitCode = report.faults.length === 0 ? 0 : 1
