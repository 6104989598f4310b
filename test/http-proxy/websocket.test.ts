import { once } from 'node:events'
import { PassThrough } from 'node:stream'
import { expect, it } from 'vitest'
import { needlesOf } from '../../src/flows/injected-request/rewriter.ts'
import { relayUpgrade } from '../../src/listeners/http-proxy/websocket.ts'

it('promise 4: a WebSocket that begins after its caller has gone away is not opened', async () => {
  const socket = new PassThrough()
  const aborted: string[] = []
  const upstream: Parameters<typeof relayUpgrade>[0] = {
    send(_request, handler) {
      socket.destroy()
      void once(socket, 'close').then(() => {
        const controller = {
          abort(reason: Error) {
            aborted.push(reason.message)
            handler.onResponseError?.(controller as never, reason)
          },
        }
        handler.onRequestStart?.(controller as never, undefined)
      })
    },
  }
  await relayUpgrade(
    upstream,
    { origin: 'https://api.example', target: '/', method: 'GET', headers: [], body: null, upgrade: 'websocket' },
    { socket, head: Buffer.alloc(0) },
    { needles: needlesOf([]), redact: false, addedHeaders: [], idleTimeout: 1000, patience: 1000 },
  )
  expect(aborted).toEqual(['the caller has gone away'])
})
