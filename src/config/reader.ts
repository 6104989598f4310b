import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { loadConfiguration, type LoadResult } from './load.ts'

// Sources run as TypeScript, the published package as JavaScript: the thread's file is the one beside this one.
const threadFile = new URL(
  import.meta.url.endsWith('.ts') ? './reader-thread.ts' : './reader-thread.js',
  import.meta.url,
)

/**
 * Reads a configuration folder on a thread of its own. Thousands of files take seconds to parse and leave hundreds of
 * megabytes of garbage: neither is for a daemon that is answering, and both are gone with the thread.
 */
export const loadOnThread: typeof loadConfiguration = (options) =>
  new Promise((resolve, reject) => {
    const thread = new Worker(threadFile, { workerData: options, resourceLimits: { maxYoungGenerationSizeMb: 8 } })
    thread.once('message', (result: LoadResult) => {
      resolve(result)
    })
    thread.once('error', reject)
    thread.once('exit', () => {
      reject(new Error('the thread that reads the configuration ended early'))
    })
  })

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
