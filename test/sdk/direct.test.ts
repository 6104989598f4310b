/** A service on this machine that answers what is no answer, where a proxy of the environment has `fetch` go past it. */
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { expect, it } from 'vitest'
import { fetchDirectly } from '../../src/sdk/direct.ts'

it.each([
  ['a status that no Response takes', 'HTTP/1.1 999 Odd\r\ncontent-length: 0\r\n\r\n'],
  [
    'another protocol than was asked for',
    'HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n',
  ],
  ['no HTTP', 'hello\r\n\r\n'],
])('fault 79, promise 9: %s is an error of the request, and ends no process', async (_what, answer) => {
  const service = createServer((socket) => {
    socket.on('error', () => undefined).once('data', () => socket.write(answer))
  }).listen(0, '127.0.0.1')
  await once(service, 'listening')
  const url = new URL(`http://127.0.0.1:${(service.address() as AddressInfo).port}/`)
  await expect(fetchDirectly(url, { signal: AbortSignal.timeout(2000) })).rejects.not.toMatchObject({
    name: 'TimeoutError',
  })
  service.close()
})
