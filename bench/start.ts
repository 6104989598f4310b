/** `npm run bench:start`: what commands and a daemon's start cost, as multiples of the CPU of `node -e 0` of the same run. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { BUNDLED_CLI, bundle } from '../scripts/bundle.ts'

const RUNS = 9
const SOURCES = resolve(import.meta.dirname, '../src/cli/main.ts')

const folder = await mkdtemp(join(tmpdir(), 'deputy-bench-start-'))
const home = join(folder, 'home')
const environment = { ...process.env, NODE_COMPILE_CACHE: join(folder, 'compiled'), DEPUTY_HOME: home }

/** Clock ticks a second of /proc/<pid>/stat: 100 on Linux, whatever the kernel's own rate (proc(5)). */
const TICKS = 100

/** CPU seconds of a process until now, of all its threads (proc(5), fields 14 and 15). */
const cpuOf = async (pid: number): Promise<number> => {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS
}

/** CPU seconds of a command from its start to its end. It writes them itself as it ends: nothing else can know all of them. */
const commandCpu = async (args: readonly string[]): Promise<number> => {
  const report =
    'data:text/javascript,import{writeSync}from"node:fs";process.on("exit",()=>{const{user,system}=process.cpuUsage();writeSync(3,String((user+system)/1e6))})'
  const child = spawn(process.execPath, ['--import', report, ...args], {
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    env: environment,
  })
  let text = ''
  child.stdio[3]!.on('data', (chunk) => {
    text += String(chunk)
  })
  await once(child, 'close')
  return Number(text)
}

/** CPU seconds of `deputy serve` until it is ready. */
const serveCpu = async (cli: string): Promise<number> => {
  const child = spawn(process.execPath, [cli, 'serve'], { stdio: ['ignore', 'pipe', 'inherit'], env: environment })
  let output = ''
  for await (const chunk of child.stdout) {
    output += String(chunk)
    if (output.includes('deputy is ready')) break
  }
  const cpu = await cpuOf(child.pid!)
  child.kill('SIGTERM')
  if (child.exitCode === null) await once(child, 'exit')
  return cpu
}

/** The least of some runs: what others did on the machine at the same time only adds. The first of all fills the compile cache. */
const least = async (measure: () => Promise<number>): Promise<number> => {
  await measure()
  let best = Infinity
  for (let run = 0; run < RUNS; run += 1) best = Math.min(best, await measure())
  return best
}

try {
  await bundle()
  await commandCpu([BUNDLED_CLI, 'init', home])
  const node = await least(() => commandCpu(['-e', '0']))
  const rows = [
    ['deputy --version', await least(() => commandCpu([BUNDLED_CLI, '--version'])), '<= 4.5'],
    ['deputy revoke', await least(() => commandCpu([BUNDLED_CLI, 'revoke', '--tenant', 'acme', '--yes'])), '<= 4.5'],
    ['deputy serve, until ready', await least(() => serveCpu(BUNDLED_CLI)), ''],
    ['deputy serve from sources', await least(() => serveCpu(SOURCES)), ''],
  ] as const
  process.stdout.write(`node -e 0: ${(node * 1000).toFixed(0)} ms of CPU\n`)
  for (const [name, cpu, goal] of rows)
    process.stdout.write(
      `${name}: ${(cpu * 1000).toFixed(0)} ms = ${(cpu / node).toFixed(1)} x${goal === '' ? '' : ` (goal ${goal})`}\n`,
    )
} finally {
  await rm(folder, { recursive: true, force: true })
}
