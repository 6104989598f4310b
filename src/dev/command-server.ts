/** The author's own server, started by `deputy dev -- COMMAND`. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { DevError } from './error.ts'

/** Time to end after SIGTERM, before SIGKILL (ms). */
const STOP_MS = 3000

export interface CommandServer {
  /** Resolves when it has ended: with its exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals>
  close(): Promise<void>
}

/** Its whole process group: a command such as npx starts the server as a child of its own. */
const signal = ({ pid }: ChildProcess, name: NodeJS.Signals): void => {
  try {
    if (pid !== undefined) process.kill(-pid, name)
  } catch {
    /* it has ended */
  }
}

/** @throws DevError when the command cannot be started */
export const startCommand = async (
  [program = '', ...args]: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
  workingFolder: string,
): Promise<CommandServer> => {
  const child = spawn(program, args, {
    cwd: workingFolder,
    env: environment,
    stdio: ['ignore', 'inherit', 'inherit'],
    detached: true,
  })
  const ended = new Promise<number | NodeJS.Signals>((resolve) => {
    child.once('exit', (code, killedBy) => {
      resolve(code ?? killedBy ?? 0)
    })
  })
  try {
    await once(child, 'spawn')
  } catch (error) {
    throw new DevError(
      `${program} could not be started (${(error as NodeJS.ErrnoException).code ?? String(error)}).`,
      'Check the command after --.',
    )
  }
  return {
    ended,
    async close() {
      signal(child, 'SIGTERM')
      const forced = new AbortController()
      const force = sleep(STOP_MS, undefined, { signal: forced.signal }).then(
        () => {
          signal(child, 'SIGKILL')
        },
        () => undefined,
      )
      await ended
      forced.abort()
      await force
    },
  }
}
