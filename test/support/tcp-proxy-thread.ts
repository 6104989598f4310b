/** A TCP proxy on a thread of its own: a process that makes load is no part of the line between a daemon and its store. */
import { once } from 'node:events'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { startTcpProxy, type TcpProxy } from './tcp-proxy.ts'

type Order =
  | { readonly what: 'cut' | 'stall' | 'halfClose' | 'heal' | 'close' }
  | { readonly what: 'delay'; readonly milliseconds: number }

const THREAD = 'a TCP proxy'

/** As `startTcpProxy`; an order is carried out a moment after the call. */
export const startTcpProxyOnThread = async (target: number): Promise<TcpProxy> => {
  const worker = new Worker(new URL(import.meta.url), { workerData: { thread: THREAD, target } })
  const [port] = (await once(worker, 'message')) as [number]
  const tell = (order: Order): void => {
    worker.postMessage(order)
  }
  return {
    port,
    cut: () => {
      tell({ what: 'cut' })
    },
    stall: () => {
      tell({ what: 'stall' })
    },
    delay: (milliseconds) => {
      tell({ what: 'delay', milliseconds })
    },
    halfClose: () => {
      tell({ what: 'halfClose' })
    },
    heal: () => {
      tell({ what: 'heal' })
    },
    async close() {
      const ended = once(worker, 'exit')
      tell({ what: 'close' })
      await ended
    },
  }
}

const serve = async (target: number): Promise<void> => {
  const proxy = await startTcpProxy(target)
  const port = parentPort!
  port.on('message', (order: Order) => {
    if (order.what === 'delay') proxy.delay(order.milliseconds)
    else if (order.what === 'close')
      void proxy.close().then(() => {
        port.close()
      })
    else proxy[order.what]()
  })
  port.postMessage(proxy.port)
}

const given = workerData as { readonly thread?: string; readonly target?: number } | null
if (!isMainThread && given?.thread === THREAD) await serve(given.target!)
