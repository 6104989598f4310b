/** `deputy check --online`: receivers of audit records that are there, and that are not. */
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { exit } from '../../src/cli/terminal.ts'
import { prepareDaemon } from '../support/daemon.ts'
import { freePort } from '../support/process.ts'

test('each sink that cannot be reached is named, and nothing is sent to the others', async () => {
  let received = ''
  const receiver = createServer((socket) => {
    socket.on('data', (chunk) => (received += chunk.toString())).on('error', () => undefined)
  }).listen(0, '127.0.0.1')
  await once(receiver, 'listening')
  const { port } = receiver.address() as AddressInfo
  const closed = await freePort()
  const here = { required: false, kind: 'syslog', tls: false } as const
  const home = await prepareDaemon(
    {},
    {
      audit: {
        sinks: [
          { ...here, name: 'reached', address: `127.0.0.1:${port}` },
          { ...here, name: 'refused', address: `127.0.0.1:${closed}`, required: true },
          { ...here, name: 'plain', address: `127.0.0.1:${port}`, tls: true },
          { ...here, name: 'no-socket', socket: 'none.sock' },
          { name: 'metadata', kind: 'http', required: false, url: 'https://169.254.169.254/x' },
          { name: 'folder', kind: 'segments', required: false, folder: 'segments' },
          { name: 'gone', kind: 'segments', required: false, folder: 'no-segments' },
        ],
      },
    },
  )
  try {
    await mkdir(join(home.home, 'segments'))
    expect((await home.deputy('check')).code).toBe(exit.ok)
    const checking = home.deputy('check', '--online')
    // The one that speaks no TLS is ended by its receiver.
    receiver.on('connection', (socket) => setTimeout(() => socket.end(), 200))
    const { code, out } = await checking
    const named = [...out.matchAll(/audit\.sinks: (\S+) cannot be reached/g)].map(([, name]) => name)
    expect([code, named]).toEqual([exit.configuration, ['refused', 'plain', 'no-socket', 'metadata', 'gone']])
    expect(out).toMatch(/refused cannot be reached: .*\n +Nothing is issued until/)
    expect(received).not.toContain('deputy')
  } finally {
    receiver.close()
    await home.close()
  }
})

test('a mistake in a sink names the sink, and a required archive of segments has one message', async () => {
  const home = await prepareDaemon(
    {},
    {
      audit: {
        sinks: [
          { name: 'siem', kind: 'http', required: true, url: 'https://siem.example', deadline: '9s', colour: 'red' },
          { name: 'archive', kind: 'segments', required: true, folder: 'segments' },
        ],
      },
    },
  )
  try {
    const { out } = await home.deputy('check')
    expect(out).toMatch(/audit\.sinks\.0 \(siem\)\.colour is no known setting/)
    expect(out.match(/\(archive\)/g)).toHaveLength(1)
  } finally {
    await home.close()
  }
})
