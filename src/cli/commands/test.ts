import { readFile, writeFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import type { Command } from 'commander'
import { formatProblem, parseYamlFile, type Problem } from '#config'
import { createContext, type CommandContext } from '../context.ts'
import { countArgument } from '../count-argument.ts'
import { readFiles } from '../home.ts'
import { CommandError, exit, print, type Terminal } from '../terminal.ts'
import { type TestFile, testFileSchema } from '../testing/cases.ts'
import type { LoadResult } from '../testing/load.ts'
import { type CaseResult, runCase, type Target } from '../testing/outcome.ts'

interface Options {
  simulate?: boolean
  load?: boolean
  callers: number
  seconds: number
  junit?: string
  json?: boolean
}

/** A problem of a file of cases, which has a page of its own. */
const shownProblem = (problem: Problem): string =>
  formatProblem({ ...problem, fix: problem.fix.replaceAll('docs/configuration.md', 'docs/testing-tools.md') })

/** The file of cases. @throws CommandError with every problem and its line */
const readCases = async (path: string): Promise<TestFile> => {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'ENOENT' ? new CommandError(exit.usage, `There is no file ${path}.`) : error
  })
  const { values, problems } = parseYamlFile(path, text, testFileSchema)
  const [file, another] = values
  if (problems.length > 0) throw new CommandError(exit.configuration, problems.map(shownProblem).join('\n'))
  if (file === undefined || another !== undefined)
    throw new CommandError(
      exit.configuration,
      `${path} has ${file === undefined ? 'no' : 'more than one'} YAML document in it.`,
    )
  return file.value
}

const openTarget = async (
  path: string,
  file: TestFile,
  { simulate }: Options,
  context: CommandContext,
): Promise<Target> => {
  if (simulate === true) {
    const [{ openOffline }, { createLogger, noTelemetry }] = await Promise.all([
      import('../testing/offline.ts'),
      import('#foundation/telemetry'),
    ])
    const { snapshot, policy } = await readFiles(context.home())
    return openOffline({ snapshot, policy, file, telemetry: noTelemetry, logger: createLogger({ level: 'silent' }) })
  }
  const { openOnline } = await import('../testing/online.ts')
  const { server } = file
  const url =
    file.url ??
    (file.command === undefined
      ? (await readFiles(context.home())).snapshot.servers.get(server ?? '')?.resource
      : undefined)
  if (url === undefined && file.command === undefined)
    throw new CommandError(
      exit.configuration,
      `There is no server ${server ?? ''}.`,
      'Write `url` or `command` in the file of cases.',
    )
  return openOnline({ file, url, folder: dirname(resolve(path)), environment: context.terminal.environment })
}

const shownResult = ({ name, passed, skipped, problems }: CaseResult): string =>
  [
    `${skipped === undefined ? (passed ? 'ok  ' : 'FAIL') : 'skip'} ${name}${skipped === undefined ? '' : `: ${skipped}`}`,
    ...problems.map((each) => `       ${each}`),
  ].join('\n')

const shownLoad = ({ calls, unexpected, perSecond, p50, p95, p99 }: LoadResult): string =>
  `${calls} calls, ${perSecond.toFixed(1)}/s, p50 ${p50.toFixed(1)} ms, p95 ${p95.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms, ${unexpected} with another outcome than expected`

/** Cases run one after the other, because faults are ordered for the next requests. */
const runCases = async (file: TestFile, target: Target, { simulate }: Options): Promise<CaseResult[]> => {
  const results: CaseResult[] = []
  for (const each of file.cases)
    results.push(
      each.fault !== undefined && simulate !== true
        ? { name: each.name, passed: true, skipped: 'a fault needs --simulate', problems: [], milliseconds: 0 }
        : await runCase(each, target),
    )
  return results
}

const run = async (path: string, options: Options, context: CommandContext): Promise<void> => {
  const { terminal } = context
  const file = await readCases(path)
  const target = await openTarget(path, file, options, context)
  try {
    if (options.load === true) {
      const { runLoad } = await import('../testing/load.ts')
      const result = await runLoad(file.cases, target, options)
      print(terminal, options, result, () => shownLoad(result))
      if (result.unexpected > 0) throw new CommandError(exit.failed, '')
      return
    }
    const results = await runCases(file, target, options)
    const failed = results.filter(({ passed }) => !passed).length
    const skipped = results.filter((each) => each.skipped !== undefined).length
    const passed = results.length - failed - skipped
    if (options.junit !== undefined) {
      const { toJunit } = await import('../testing/junit.ts')
      await writeFile(options.junit, toJunit(path, results))
    }
    print(terminal, options, { results, passed, failed, skipped }, () =>
      [
        ...results.map(shownResult),
        `${passed} passed, ${failed} failed${skipped === 0 ? '' : `, ${skipped} skipped`}`,
      ].join('\n'),
    )
    if (failed > 0) throw new CommandError(exit.failed, '')
  } finally {
    await target.close()
  }
}

export const addTestCommand = (program: Command, terminal: Terminal): void => {
  const context = createContext(program, terminal)
  program
    .command('test')
    .description(
      'run a file of cases against the tools of an MCP server: calls as named users, with their expected outcomes',
    )
    .argument('<file>', 'YAML file of cases (docs/testing-tools.md)')
    .option('--simulate', 'answer in place of the API, from its document; no daemon, network or credential is needed')
    .option('--load', 'call the cases repeatedly and show rate and latency')
    .option('--callers <n>', 'with --load: calls at the same time', countArgument, 8)
    .option('--seconds <n>', 'with --load: how long', countArgument, 10)
    .option('--junit <file>', 'also write the results as JUnit XML')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  deputy test tests/billing.yaml --simulate\n  ALICE_TOKEN=… deputy test tests/billing.yaml --junit results.xml\n  deputy test tests/billing.yaml --simulate --load --callers 16 --seconds 5',
    )
    .action((file: string, options: Options) => run(file, options, context))
}
