import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { listenOnPort, type Listener } from '../../src/listeners/http/listener.ts'

const ANSWER_BYTES = 32 * 1_048_576

let listener: Listener | undefined
let client: Socket | undefined
afterEach(async () => {
  client?.destroy()
  await listener?.close(0)
})

/** Starts a listener whose answers are larger than what the kernel takes, and asks it. @returns when its side of the connection has ended */
const ask = async (unreadTimeout: number): Promise<{ readonly client: Socket; readonly ended: Promise<unknown> }> => {
  const closed = Promise.withResolvers<void>()
  listener = await listenOnPort(
    (request, response) => {
      request.socket.once('close', () => {
        closed.resolve()
      })
      response.end(Buffer.alloc(ANSWER_BYTES))
    },
    {
      setting: 'test',
      host: '127.0.0.1',
      port: 0,
      headerTimeout: 1000,
      requestTimeout: 1000,
      unreadTimeout,
    },
  )
  client = connect(listener.port!, '127.0.0.1')
  client.on('error', () => undefined)
  await once(client, 'connect')
  client.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
  return { client, ended: closed.promise }
}

describe('a client that reads its answer no further', () => {
  it('is ended, so that the answer takes memory for a bounded time', async () => {
    const { client: reader, ended } = await ask(300)
    reader.pause()
    await ended
  })

  it('is not ended while it takes piece by piece, for longer than that', async () => {
    const unread = 800
    const { client: reader } = await ask(unread)
    const began = performance.now()
    let [got, pause] = [0, 0]
    for await (const chunk of reader) {
      got += (chunk as Buffer).length
      if (got >= ANSWER_BYTES) break
      // More than the kernel holds back for one window, and many pieces within the time.
      if ((pause += (chunk as Buffer).length) > 1_048_576) {
        pause = 0
        await sleep(unread / 10)
      }
    }
    expect(got).toBeGreaterThanOrEqual(ANSWER_BYTES)
    expect(performance.now() - began).toBeGreaterThan(2 * unread)
  })
})
