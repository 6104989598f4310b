/** Runs vitest over what ships, and counts. Used by `npm test` and `npm run test:real`. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { BUNDLED_CLI, bundle, bundleTestPrograms, TEST_PROGRAMS } from './bundle.ts'
import { installPackages } from './packages.ts'

/** https://vitest.dev/guide/reporters.html#json-reporter */
const reportSchema = z.object({
  numPassedTests: z.number(),
  numFailedTests: z.number(),
  numPendingTests: z.number(),
  testResults: z.array(
    z.object({
      name: z.string(),
      assertionResults: z.array(z.object({ fullName: z.string(), status: z.string() })),
    }),
  ),
})

export interface TestRun {
  readonly exitCode: number
  /** How many passed, failed and were skipped. */
  readonly summary: string
  readonly files: readonly {
    readonly path: string
    readonly cases: readonly { readonly name: string; readonly status: string }[]
  }[]
}

/** @param args for vitest, such as the files to run */
export const runTests = async (args: readonly string[]): Promise<TestRun> => {
  installPackages()
  // The processes that the tests start are what ships; vitest by itself starts the sources.
  await Promise.all([bundle(), bundleTestPrograms()])
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
      ...args,
    ],
    { stdio: 'inherit', env: { ...process.env, DEPUTY_TEST_CLI: BUNDLED_CLI, DEPUTY_TEST_PROGRAMS: TEST_PROGRAMS } },
  )
  const [code] = (await once(child, 'exit')) as [number | null]
  const counts = await readFile(report, 'utf8').then(
    (text) => reportSchema.parse(JSON.parse(text)),
    () => undefined,
  )
  await rm(folder, { recursive: true, force: true })
  // A file that does not load has no tests to fail: it counts as one.
  const failed = counts === undefined ? 1 : Math.max(counts.numFailedTests, code === 0 ? 0 : 1)
  const skipped = counts === undefined || counts.numPendingTests === 0 ? '' : `, ${counts.numPendingTests} skipped`
  return {
    exitCode: code ?? 1,
    summary: `${counts?.numPassedTests ?? 0} passed, ${failed} failed${skipped}`,
    files: (counts?.testResults ?? []).map(({ name, assertionResults }) => ({
      path: name,
      cases: assertionResults.map((each) => ({ name: each.fullName, status: each.status })),
    })),
  }
}
