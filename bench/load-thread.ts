/** Load on a thread of its own, beside what is measured. */
import { once } from 'node:events'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { load, type Measured } from './load.ts'

interface LoadOrder {
  readonly to: { readonly origin: string; readonly socketPath: string }
  readonly path: string
  readonly body: string
  readonly seconds: number
}

/** As `load`, with one body. */
export const loadOnThread = async (order: LoadOrder): Promise<Measured> => {
  const worker = new Worker(new URL(import.meta.url), { workerData: { load: order } })
  const [measured] = (await once(worker, 'message')) as [Measured]
  await worker.terminate()
  return measured
}

const given = workerData as { readonly load?: LoadOrder } | null
if (!isMainThread && given?.load !== undefined) {
  const { to, path, body, seconds } = given.load
  parentPort!.postMessage(await load(to, path, () => body, seconds))
}
