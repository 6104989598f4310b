/** Configuration folders, broken at random: what `check` says of them, and what `serve` does with those that it passes. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { packageVersion, shipped } from '../../src/cli/home.ts'
import { createSystemRandom, systemClock } from '../../src/clock.ts'
import { readConfiguration } from '../../src/daemon/configuration/configuration.ts'
import { startDaemon } from '../../src/daemon/daemon.ts'
import { asDeputyError, DeputyError } from '../../src/errors.ts'
import { createLogger } from '../../src/foundation/telemetry/pino-logger.ts'
import { breakFolder, createDraw } from './folder-mutations.ts'

/** What only the machine knows when the daemon starts: files, folders and variables that are not there. `check` warns of those. */
const OF_THE_MACHINE =
  /cannot be (read|opened|created)|is not a (file|folder)|exists and is|does not exist|is a folder|is no folder|holds no|has mode 0|this user may not|shall be|belongs to the environment|is no address of this machine|has no address|no answer within|is no record as it was written/

export interface Found {
  readonly seed: number
  readonly broken: readonly string[]
  readonly fault: string
}

export interface CampaignReport {
  cases: number
  refused: number
  passed: number
  started: number
  /** Starts that failed over what is not on the machine. */
  ofTheMachine: number
  readonly faults: Found[]
}

const faultOf = (problem: { file: string; line: number; message: string; fix: string }): string | undefined => {
  const text = `${problem.file}:${problem.line}: ${problem.message} ${problem.fix}`
  if (/\n\s+at .*:\d+/.test(text)) return `a stack trace: ${text}`
  return problem.file === '' || !(problem.line >= 1) || problem.message === '' || problem.fix === ''
    ? `a problem that says too little: ${text}`
    : undefined
}

/** Starts a daemon on the folder. @returns its failure; undefined when it started */
const serve = async (home: string): Promise<unknown> => {
  try {
    const daemon = await startDaemon({
      home,
      shipped,
      version: await packageVersion(),
      environment: {},
      clock: systemClock,
      random: createSystemRandom(),
      logger: createLogger({ level: 'fatal' }),
    })
    await daemon.stop()
    return undefined
  } catch (error) {
    return error
  }
}

const serveFault = (error: unknown, isPassed: boolean): 'started' | 'machine' | { fault: string } => {
  if (error === undefined) return isPassed ? 'started' : { fault: 'serve starts what check refuses' }
  if (!(error instanceof DeputyError)) return { fault: `serve throws ${String((error as Error).stack)}` }
  const text = `${error.code}: ${error.message} ${error.next}`
  if (/\n\s+at .*:\d+/.test(text) || text.includes('not foreseen')) return { fault: `serve says: ${text}` }
  if (!isPassed || OF_THE_MACHINE.test(text)) return 'machine'
  return { fault: `check passes, serve says: ${text}` }
}

/**
 * Breaks folders and looks at what comes of them.
 * @param options.serve how many of those that `check` passes, and as many of those that it refuses, are served
 */
export const runConfigurationCampaign = async (options: {
  readonly seed: number
  readonly cases: number
  readonly serve: number
  readonly report?: (line: string) => void
}): Promise<CampaignReport> => {
  const report: CampaignReport = { cases: 0, refused: 0, passed: 0, started: 0, ofTheMachine: 0, faults: [] }
  // Those that come with Deputy are of no interest here, and are most of what is read.
  const noProviders = await mkdtemp(join(tmpdir(), 'deputy-no-providers-'))
  try {
    for (let seed = options.seed; seed < options.seed + options.cases; seed += 1) {
      const home = await mkdtemp(join(tmpdir(), 'deputy-broken-'))
      const broken = await breakFolder(home, createDraw(seed))
      const fault = (text: string): void => {
        report.faults.push({ seed, broken, fault: text })
        options.report?.(`seed ${seed} (${broken.join('; ')}): ${text}`)
      }
      try {
        report.cases += 1
        const { problems, warnings } = await readConfiguration({
          home,
          shipped: { ...shipped, providers: noProviders },
          generation: 1,
        })
        for (const each of [...problems, ...warnings].map(faultOf)) if (each !== undefined) fault(each)
        const isPassed = problems.length === 0
        const count = isPassed ? (report.passed += 1) : (report.refused += 1)
        if (count <= options.serve) {
          const outcome = serveFault(await serve(home), isPassed)
          if (outcome === 'started') report.started += 1
          else if (outcome === 'machine') report.ofTheMachine += isPassed ? 1 : 0
          else fault(outcome.fault)
        }
      } catch (error) {
        fault(
          `check throws ${asDeputyError(error).cause instanceof Error ? (asDeputyError(error).cause as Error).stack : String(error)}`,
        )
      } finally {
        await rm(home, { recursive: true, force: true })
      }
      if (report.cases % 500 === 0) options.report?.(JSON.stringify({ ...report, faults: report.faults.length }))
    }
  } finally {
    await rm(noProviders, { recursive: true })
  }
  return report
}
