/** The thread that reads configuration folders, one after the other; see `reader.ts`. */
import { parentPort } from 'node:worker_threads'
import { loadConfiguration } from './load.ts'

let turn: Promise<void> = Promise.resolve()
// A folder that cannot be read at all ends the thread, and the caller's promise rejects.
parentPort!.on('message', (options: Parameters<typeof loadConfiguration>[0]) => {
  turn = turn.then(async () => {
    parentPort!.postMessage(await loadConfiguration(options))
  })
})
