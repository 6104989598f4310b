/** Starting, asking and ending real processes, by their id. */
import { spawn, type ChildProcess } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { join, resolve } from 'node:path'
import { inspect } from 'node:util'
import type { Terminal } from '../../src/cli/terminal.ts'

/** The CLI as it ships, where `npm test` has bundled it, else its source, which runs as it is. */
export const CLI = process.env['DEPUTY_TEST_CLI'] ?? join(resolve(import.meta.dirname, '../..'), 'src/cli/main.ts')

/** A daemon with a fault or a clock of a test's, bundled where the CLI is. */
export const testProgram = (name: 'faulty-daemon' | 'clock-daemon'): string => {
  const folder = process.env['DEPUTY_TEST_PROGRAMS']
  return folder === undefined ? join(import.meta.dirname, `${name}.ts`) : join(folder, `${name}.js`)
}

/** Below those that the kernel gives to outgoing connections (ip(7), ip_local_port_range), which could take it before it is used. */
const [FIRST_PORT, LAST_PORT] = [10_000, 32_767]

/** Workers of vitest run at the same time: each takes ports of its own, those with one remainder by this number. */
const PORT_CLASSES = 8
const portClass = Number(process.env['VITEST_POOL_ID'] ?? 0) % PORT_CLASSES
const taken = new Set<number>()

/** A port of this worker's that no test of it has had before. */
const nextPort = (): number => {
  for (;;) {
    const port = randomInt(FIRST_PORT / PORT_CLASSES, Math.floor(LAST_PORT / PORT_CLASSES)) * PORT_CLASSES + portClass
    if (taken.has(port)) continue
    taken.add(port)
    return port
  }
}

/** A port that was free a moment ago, and that nothing else in the tests takes. */
export const freePort = async (): Promise<number> => {
  for (let attempt = 1; ; attempt += 1) {
    const port = nextPort()
    const server = createServer().listen(port, '127.0.0.1')
    try {
      await once(server, 'listening')
    } catch (error) {
      if (attempt === 100) throw error
      continue
    }
    server.close()
    await once(server, 'close')
    return port
  }
}

/** ms in which a process must be ready, on a machine that is three times slower than a good one. */
const START_LIMIT = 90_000

/** Starts a process and waits for a line that says it is ready. @param written gets all that it writes */
export const startProcess = async (
  args: readonly string[],
  ready: RegExp,
  environment: NodeJS.ProcessEnv = process.env,
  written: (text: string) => void = () => undefined,
): Promise<ChildProcess> => {
  const child = spawn(process.execPath, [...args], { stdio: ['ignore', 'pipe', 'pipe'], env: environment })
  let output = ''
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL')
      reject(new Error(`${args.join(' ')} was not ready in time:\n${output}`))
    }, START_LIMIT)
    const look = (chunk: Buffer): void => {
      written(chunk.toString('utf8'))
      output += chunk.toString('utf8')
      if (!ready.test(output)) return
      clearTimeout(timer)
      resolve()
    }
    child.stdout.on('data', look)
    child.stderr.on('data', look)
    child.once('exit', (code) => {
      clearTimeout(timer)
      reject(new Error(`${args.join(' ')} ended with ${code}:\n${output}`))
    })
  })
  return child
}

/** Ends a process that we started, by its id. */
export const stopProcess = async (child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill(signal)
  await gone
}

/** What a run of the CLI left. */
export interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

/** Runs the CLI as a process of its own: for what is about a process (its end, its streams, its signals). */
export const runCliProcess = async (
  home: string,
  args: readonly string[],
  input: string | Uint8Array = '',
): Promise<Ran> => {
  const child = spawn(process.execPath, [CLI, ...args, '--home', home], { stdio: ['pipe', 'pipe', 'pipe'] })
  let [out, err] = ['', '']
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString('utf8')
  })
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString('utf8')
  })
  child.stdin.end(input)
  const [code] = (await once(child, 'close')) as [number]
  return { code, out, err }
}

/** Commands that take the whole process: its signals, its exit and its streams. */
const WHOLE_PROCESS: readonly string[] = ['serve', 'exec']

/**
 * Runs the CLI: in this process, on a terminal that is kept, because a start of Node costs more than most commands do.
 * `serve` and `exec` run as a process of their own.
 */
export const runCli = async (home: string, args: readonly string[], input: string | Uint8Array = ''): Promise<Ran> => {
  if (WHOLE_PROCESS.includes(args[0] ?? '')) return runCliProcess(home, args, input)
  const { run } = await import('../../src/cli/program.ts')
  let [out, err] = ['', '']
  const terminal: Terminal = {
    out: (text) => {
      out += text
    },
    err: (text) => {
      err += text
    },
    input: () => Promise.resolve(Buffer.from(input as string)),
    isInteractive: false,
    environment: process.env,
    workingFolder: process.cwd(),
  }
  try {
    return { code: await run([...args, '--home', home], terminal), out, err }
  } catch (error) {
    // A process would end so: with the error on standard error.
    return { code: 1, out, err: `${err}${inspect(error)}\n` }
  }
}
