/** `npm run campaign:audit -- [kills]`: the long form of the kill test of `test/audit/segments.test.ts`, with its numbers. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runKills } from '../test/audit/kills.ts'

const [kills = 200] = process.argv.slice(2).map(Number)
const folder = await mkdtemp(join(tmpdir(), 'deputy-kills-'))
const report = await runKills(folder, kills, (line) => {
  process.stdout.write(`${line}\n`)
})
process.stdout.write(`${JSON.stringify(report, null, 2)}\n`)
process.exitCode = report.missing.length + report.problems.length === 0 ? 0 : 1
if (process.exitCode === 0) await rm(folder, { recursive: true })
else process.stdout.write(`What is left is in ${folder}.\n`)
