/** The daemon in the process of the test. */
import { createSystemRandom, systemClock } from '../../src/clock.ts'
import { shipped } from '../../src/cli/home.ts'
import { DeputyError, forAdmins } from '../../src/errors.ts'
import { createLogger } from '../../src/foundation/telemetry/pino-logger.ts'

/** Sets variables of this process. @returns what puts those of before back */
const setEnvironment = (variables: Readonly<Record<string, string>>): (() => void) => {
  const before = { ...process.env }
  Object.assign(process.env, variables)
  return () => {
    for (const name of Object.keys(variables)) {
      if (before[name] === undefined) delete process.env[name]
      else process.env[name] = before[name]
    }
  }
}

/**
 * @param environment of this process until it stops, because libraries read it by themselves
 * @param written gets the lines of its log
 */
export const startHere = async (
  home: string,
  environment: Readonly<Record<string, string>>,
  written: (text: string) => void,
): Promise<{ stop(): Promise<void> }> => {
  // Loaded here: files that start processes alone do without the daemon's modules.
  const { startDaemon } = await import('../../src/daemon/daemon.ts')
  const restore = setEnvironment(environment)
  try {
    const daemon = await startDaemon({
      home,
      shipped,
      version: 'test',
      environment: process.env,
      clock: systemClock,
      random: createSystemRandom(),
      logger: createLogger({ level: 'info', destination: { write: written } }),
    })
    return {
      stop: async () => {
        await daemon.stop()
        restore()
      },
    }
  } catch (error) {
    restore()
    if (!(error instanceof DeputyError)) throw error
    // As the CLI says it.
    throw new Error(`${forAdmins(error)}\nNext: ${error.next}`, { cause: error })
  }
}
