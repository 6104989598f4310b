import { findProgram } from './program-file.ts'
import { Supervisor, type SupervisorOptions } from './supervisor.ts'

export interface ExecOptions extends SupervisorOptions {
  readonly workingFolder: string
}

/** Signals that end the command; the others are passed on to it. */
const ENDING_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const
const FORWARDED_SIGNALS = ['SIGUSR1', 'SIGUSR2', 'SIGQUIT'] as const

/** Lets the supervisor handle this process's signals. @returns what gives them back */
const handleSignals = (supervisor: Supervisor): (() => void) => {
  const handlers = [
    ...ENDING_SIGNALS.map((signal) => ({
      signal,
      handle: () => {
        supervisor.terminate(signal)
      },
    })),
    ...FORWARDED_SIGNALS.map((signal) => ({
      signal,
      handle: () => {
        supervisor.forward(signal)
      },
    })),
  ]
  for (const { signal, handle } of handlers) process.on(signal, handle)
  return () => {
    for (const { signal, handle } of handlers) process.off(signal, handle)
  }
}

/**
 * Runs a stdio server unmodified, with the credentials that its file in the registry maps, for as long as both it and its
 * authority last. The daemon learns the server and the child's pid, and not the command.
 * @returns the exit code of the command
 * @throws CommandError when it cannot begin
 */
export const runExec = async (options: ExecOptions): Promise<number> => {
  const file = await findProgram(options.command[0], {
    path: options.environment['PATH'],
    workingFolder: options.workingFolder,
  })
  const supervisor = new Supervisor(options, file)
  const releaseSignals = handleSignals(supervisor)
  try {
    return await supervisor.run()
  } finally {
    releaseSignals()
    await supervisor.close()
  }
}
