import { Worker } from 'node:worker_threads'
import type { LoadResult, loadConfiguration } from './load.ts'

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
