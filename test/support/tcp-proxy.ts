/**
 * A TCP proxy between a daemon and what it depends on, which can spoil the line.
 * `cut`: connections break and new ones are refused. `stall`: nothing gets through, and all of it comes late when the
 * line is whole again. `delay`: everything comes later. `halfClose`: one direction ends.
 */
import { connect, createServer, type Socket } from 'node:net'
import { once } from 'node:events'

export interface TcpProxy {
  readonly port: number
  cut(): void
  stall(): void
  delay(milliseconds: number): void
  halfClose(): void
  heal(): void
  close(): Promise<void>
}

type State = 'whole' | 'cut' | 'stalled'

export const startTcpProxy = async (target: number): Promise<TcpProxy> => {
  const pairs = new Set<{ near: Socket; far: Socket }>()
  let state: State = 'whole'
  let later = 0
  let held: (() => void)[] = []

  const pass = (from: Socket, to: Socket): void => {
    // What came first goes first, whatever the line was like meanwhile.
    let turn = Promise.resolve()
    from.on('data', (chunk: Buffer) => {
      const wait = later
      turn = turn.then(async () => {
        if (wait > 0)
          await new Promise((resolve) => {
            setTimeout(resolve, wait)
          })
        if (state === 'stalled')
          await new Promise<void>((resolve) => {
            held.push(resolve)
          })
        if (!to.destroyed) to.write(chunk)
      })
    })
    from.on('end', () => {
      void turn.then(() => {
        to.end()
      })
    })
    from.on('error', () => {
      to.destroy()
    })
    from.on('close', () => {
      if (state !== 'stalled')
        void turn.then(() => {
          to.destroy()
        })
    })
  }

  const server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => {
    if (state === 'cut') {
      near.destroy()
      return
    }
    const far = connect({ port: target, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
    const pair = { near, far }
    pairs.add(pair)
    near.on('close', () => {
      pairs.delete(pair)
    })
    pass(near, far)
    pass(far, near)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const release = (): void => {
    const waiting = held
    held = []
    for (const go of waiting) go()
  }
  const breakAll = (): void => {
    for (const { near, far } of pairs) {
      near.destroy()
      far.destroy()
    }
  }
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    cut() {
      state = 'cut'
      breakAll()
      release()
    },
    stall() {
      state = 'stalled'
    },
    delay(milliseconds) {
      later = milliseconds
    },
    halfClose() {
      for (const { far } of pairs) far.end()
    },
    heal() {
      state = 'whole'
      later = 0
      release()
    },
    async close() {
      state = 'cut'
      breakAll()
      release()
      server.close()
      await once(server, 'close')
    },
  }
}
