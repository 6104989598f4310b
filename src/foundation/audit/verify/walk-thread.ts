/** The thread that walks along segment files: a chain of years takes a while, and users do not wait for it. */
import { parentPort, workerData } from 'node:worker_threads'
import { walkInOrder, type WalkOrder } from './thread.ts'

parentPort!.postMessage(await walkInOrder(workerData as WalkOrder))
