import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { loadConfiguration, type LoadResult } from './load.ts'

// Sources run as TypeScript, the published package as JavaScript: the thread's file is in the same folder.
const threadFile = new URL(
  import.meta.url.endsWith('.ts') ? './reader-thread.ts' : './reader-thread.js',
  import.meta.url,
)

/** How long the thread is kept for the next reading (ms): edits come in groups, and to start it costs five times what it reads. */
const THREAD_LIFETIME_MS = 5000

interface Waiting {
  readonly resolve: (result: LoadResult) => void
  readonly reject: (error: unknown) => void
}

/** @param ended is called when it can read no more */
const startThread = (ended: () => void) => {
  const thread = new Worker(threadFile, { resourceLimits: { maxYoungGenerationSizeMb: 8 } })
  // It answers in the order in which it is asked.
  const waiting: Waiting[] = []
  let idle: NodeJS.Timeout | undefined
  const end = (error: unknown): void => {
    ended()
    clearTimeout(idle)
    for (const { reject } of waiting.splice(0)) reject(error)
  }
  thread.on('message', (result: LoadResult) => {
    waiting.shift()?.resolve(result)
    if (waiting.length > 0) return
    // A process that has nothing else to do does not wait for its end.
    thread.unref()
    idle = setTimeout(() => {
      ended()
      void thread.terminate()
    }, THREAD_LIFETIME_MS)
    idle.unref()
  })
  thread.once('error', end)
  thread.once('exit', () => {
    end(new Error('the thread that reads the configuration ended early'))
  })
  return (options: Parameters<typeof loadConfiguration>[0]): Promise<LoadResult> =>
    new Promise((resolve, reject) => {
      clearTimeout(idle)
      waiting.push({ resolve, reject })
      thread.ref()
      thread.postMessage(options)
    })
}

let thread: ReturnType<typeof startThread> | undefined

/**
 * Reads a configuration folder on a thread of its own. Thousands of files take seconds to parse and leave hundreds of
 * megabytes of garbage: neither is for a daemon that is answering, and both are gone with the thread, seconds later.
 */
export const loadOnThread: typeof loadConfiguration = (options) => {
  const read = (thread ??= startThread(() => {
    if (thread === read) thread = undefined
  }))
  return read(options)
}

/**
 * Entries of the folders up to which a start reads them itself: below it a thread costs more CPU (150 ms) than the
 * reading.
 */
const SMALL_FOLDER = 300

/** Reads the configuration folder when nothing is served yet: a small one without a thread. */
export const loadAtStart: typeof loadConfiguration = async (options) =>
  (await countEntries(options.home)) > SMALL_FOLDER ? loadOnThread(options) : loadConfiguration(options)

/** Of the folders in the folder. A folder that cannot be read counts as empty: what reads it next says why. */
const countEntries = async (folder: string): Promise<number> => {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  const counts = await Promise.all(
    entries
      .filter((entry) => entry.isDirectory())
      .map(async ({ name }) => (await readdir(join(folder, name)).catch(() => [])).length),
  )
  return counts.reduce((sum, count) => sum + count, 0)
}
