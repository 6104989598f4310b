/** The thread that reads a configuration folder once; see `reader.ts`. */
import { parentPort, workerData } from 'node:worker_threads'
import { loadConfiguration } from './load.ts'

parentPort!.postMessage(await loadConfiguration(workerData as Parameters<typeof loadConfiguration>[0]))
