/** `npm test`: installs the programs that the tests need, runs them and says in the last line how many passed, failed and were skipped. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { BUNDLED_CLI, bundle } from './bundle.ts'
import { installPackages } from './packages.ts'

const reportSchema = z.object({
  numPassedTests: z.number(),
  numFailedTests: z.number(),
  numPendingTests: z.number(),
  numFailedTestSuites: z.number(),
})

installPackages()
// The processes that the tests start are what ships; vitest by itself starts the sources.
await bundle()
const folder = await mkdtemp(join(tmpdir(), 'deputy-tests-'))
const report = join(folder, 'report.json')
const child = spawn(
  process.execPath,
  [
    'node_modules/vitest/vitest.mjs',
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
    ...process.argv.slice(2),
  ],
  { stdio: 'inherit', env: { ...process.env, DEPUTY_TEST_CLI: BUNDLED_CLI } },
)
const [code] = (await once(child, 'exit')) as [number | null]
const counts = await readFile(report, 'utf8').then(
  (text) => reportSchema.parse(JSON.parse(text)),
  () => undefined,
)
await rm(folder, { recursive: true, force: true })
// A file that does not load has no tests to fail: it counts as one.
const failed = counts === undefined ? 1 : Math.max(counts.numFailedTests, code === 0 ? 0 : 1)
process.stdout.write(
  `${counts?.numPassedTests ?? 0} passed, ${failed} failed${counts === undefined || counts.numPendingTests === 0 ? '' : `, ${counts.numPendingTests} skipped`}\n`,
)
process.exitCode = code ?? 1
