import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { createServiceManager } from '../../src/daemon/service-manager.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'

const PYTHON = '/usr/bin/python3'
const hasPython = existsSync(PYTHON)
if (!hasPython)
  process.stderr.write('\n*** SKIPPED: what a service manager hears. Install the package `python3`. ***\n\n')

/** What systemd does: takes datagrams at a socket, here one a line. Node cannot. */
const LISTENER = `import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1].replace("@", "\\0", 1) if sys.argv[1].startswith("@") else sys.argv[1])
print("bound", flush=True)
while True: print(s.recv(4096).decode().replace("\\n", " "), flush=True)`

const aManager = async (socket: string, more: Record<string, string> = {}) => {
  const listener = spawn(PYTHON, ['-c', LISTENER, socket], { stdio: ['ignore', 'pipe', 'inherit'] })
  let said = ''
  listener.stdout.setEncoding('utf8').on('data', (text: string) => (said += text))
  onTestFinished(async () => {
    listener.kill()
    if (listener.exitCode === null && listener.signalCode === null) await once(listener, 'exit')
  })
  await expect.poll(() => said, { timeout: 10_000 }).toContain('bound')
  const ends: (() => void)[] = []
  onTestFinished(() => {
    for (const end of ends) end()
  })
  const manager = createServiceManager({
    environment: { NOTIFY_SOCKET: socket, ...more },
    pid: 42,
    monotonicMicroseconds: () => 7n,
    logger: silentLogger,
    atEnd: (end) => ends.push(end),
  })
  return { manager, said: () => said.split('\n').filter((line) => line !== 'bound' && line !== '') }
}

describe.skipIf(!hasPython)('what systemd hears of the daemon', () => {
  it('hears that it serves, reads its files and ends, at a path and at a name without a file', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'deputy-notify-'))
    onTestFinished(() => rm(folder, { recursive: true, force: true }))
    for (const socket of [join(folder, 'notify'), `@deputy-test-${process.pid}`]) {
      const { manager, said } = await aManager(socket)
      await manager.ready()
      await manager.reloading()
      await manager.stopping()
      await expect
        .poll(said)
        .toEqual([
          'READY=1 STATUS=serving',
          'RELOADING=1 MONOTONIC_USEC=7 STATUS=reading the configuration',
          'STOPPING=1 STATUS=finishing requests',
        ])
    }
  })

  it('hears in the time of the watchdog that the main thread runs, of the process that it means', async () => {
    const watched = { WATCHDOG_USEC: '40000', WATCHDOG_PID: '42' }
    const means = await aManager(`@deputy-watch-${process.pid}`, watched)
    const another = await aManager(`@deputy-other-${process.pid}`, { ...watched, WATCHDOG_PID: '43' })
    await expect.poll(() => means.said().length).toBeGreaterThan(2)
    expect(new Set(means.said())).toEqual(new Set(['WATCHDOG=1']))
    expect(another.said()).toEqual([])
  })

  it('goes on where the manager does not take it', async () => {
    const manager = createServiceManager({
      environment: { NOTIFY_SOCKET: '/nowhere/notify' },
      pid: 1,
      monotonicMicroseconds: () => 0n,
      logger: silentLogger,
      atEnd: () => undefined,
    })
    await manager.ready()
  })
})
