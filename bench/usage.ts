/** What a process has used, as the kernel counts it (proc(5)). Linux alone. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** Time on a processor (seconds). */
export interface Cpu {
  readonly main: number
  /** Every thread that the program has started itself: the store's, and others that write. */
  readonly workers: number
  /** The compiler, the collector, libuv. */
  readonly rest: number
}

/** Names that Node gives to the threads that it starts by itself; a worker has its own. */
const OF_NODE = /^(?:DelayedTaskSche|V8Worker|SignalInspector|libuv-worker)/

/** The first number of schedstat is the time on a processor in ns; `stat` counts in hundredths of a second. */
const cpuOfThread = async (folder: string, thread: string): Promise<readonly [name: string, seconds: number]> => {
  const [name, times] = await Promise.all(
    ['comm', 'schedstat'].map((file) => readFile(join(folder, thread, file), 'utf8')),
  )
  return [name!.trim(), Number(times!.split(' ')[0]) / 1e9]
}

/** Time that the threads of a process have had so far; those that have ended are not counted. */
export const cpuOf = async (pid: number): Promise<Cpu> => {
  const folder = `/proc/${pid}/task`
  const used = { main: 0, workers: 0, rest: 0 }
  const threads = await readdir(folder)
  const times = await Promise.all(threads.map((thread) => cpuOfThread(folder, thread).catch(() => ['', 0] as const)))
  for (const [at, [name, seconds]] of times.entries())
    used[threads[at] === String(pid) ? 'main' : OF_NODE.test(name) ? 'rest' : 'workers'] += seconds
  return used
}

export const cpuBetween = (before: Cpu, after: Cpu): Cpu => ({
  main: after.main - before.main,
  workers: after.workers - before.workers,
  rest: after.rest - before.rest,
})

export const addCpu = (a: Cpu, b: Cpu): Cpu => ({
  main: a.main + b.main,
  workers: a.workers + b.workers,
  rest: a.rest + b.rest,
})

export const totalOf = ({ main, workers, rest }: Cpu): number => main + workers + rest

const fieldOf = async (file: string, name: string): Promise<number> =>
  Number(new RegExp(`^${name}:\\s*(\\d+)`, 'm').exec(await readFile(file, 'utf8'))?.[1] ?? NaN)

/** Memory of a process, its share of what it shares with others included (bytes). */
export const pssOf = async (pid: number): Promise<number> => (await fieldOf(`/proc/${pid}/smaps_rollup`, 'Pss')) * 1024

/** Bytes that a process has given to the file system to be written to a disk: each page as often as it was made dirty anew. */
export const writtenBy = (pid: number): Promise<number> => fieldOf(`/proc/${pid}/io`, 'write_bytes')

/** Bytes of the files below a folder. */
export const sizeOf = async (folder: string): Promise<number> => {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const sizes = await Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map((entry) =>
        stat(join(entry.parentPath, entry.name)).then(
          ({ size }) => size,
          () => 0,
        ),
      ),
  )
  return sizes.reduce((sum, size) => sum + size, 0)
}
