import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants } from 'node:os'
import { extname } from 'node:path'
import type { Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { LaunchOrder } from './launcher.ts'

export interface Child {
  readonly pid: number
  /** Its exit code, 128 and the number for one that a signal has ended. */
  readonly exited: Promise<number>
  /** Lets it become the command. */
  release(order: LaunchOrder): void
  signal(signal: NodeJS.Signals): void
  /** Ends it: at first kindly, after `patience` (ms) for certain. @param signal undefined: it has had one already */
  stop(patience: number, signal: NodeJS.Signals | undefined): Promise<number>
}

/** In the folder of this file, as a source or compiled. */
const LAUNCHER = fileURLToPath(new URL(`launcher${extname(import.meta.url)}`, import.meta.url))

/** Starts a process that waits for its program. It has no environment until then. @throws Error when no process can be started */
export const launch = async (): Promise<Child> => {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', LAUNCHER], {
    stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
    env: {},
  })
  await once(child, 'spawn')
  const control = child.stdio[3] as Writable
  // It may be gone before it has read.
  control.on('error', () => undefined)
  const exited = new Promise<number>((resolve) => {
    child.once('exit', (code, signal) => {
      resolve(code ?? 128 + constants.signals[signal!])
    })
  })
  return {
    pid: child.pid!,
    exited,
    release(order) {
      control.end(JSON.stringify(order))
    },
    signal(signal) {
      child.kill(signal)
    },
    async stop(patience, signal) {
      if (signal !== undefined) child.kill(signal)
      const timer = setTimeout(() => {
        child.kill('SIGKILL')
      }, patience)
      try {
        return await exited
      } finally {
        clearTimeout(timer)
      }
    },
  }
}
