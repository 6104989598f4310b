/** Command lines that name nothing, filters that find nothing, and readers that go away. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { aCompany } from '../support/configuration.ts'
import { ask, prepareDaemon, startDaemonProcess, type Daemon } from '../support/daemon.ts'
import { CLI, runCli, stopProcess } from '../support/process.ts'

let daemon: Daemon
beforeAll(async () => {
  daemon = await startDaemonProcess(aCompany({ issuer: 'http://127.0.0.1:9' }))
})
afterAll(async () => {
  await daemon?.close()
})

/** Runs the CLI with a reader that reads nothing and goes away at once. */
const withoutReader = async (...args: string[]): Promise<{ code: number | null; err: string }> => {
  const child = spawn(process.execPath, [CLI, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  child.stdout.destroy()
  let err = ''
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString('utf8')
  })
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, err }
}

describe('fault 38: filters of the audit log', () => {
  it('fault 38: a word that no record can have is refused with near ones', async () => {
    const outcome = await daemon.deputy('audit', 'query', '--outcome', 'refusd')
    expect([outcome.code, outcome.err]).toMatchObject([1, expect.stringContaining("Did you mean 'refused'?")])
    const event = await daemon.deputy('audit', 'query', '--event', 'token.exchnge')
    expect([event.code, event.err]).toMatchObject([1, expect.stringContaining("Did you mean 'token.exchange'?")])
    expect((await daemon.deputy('audit', 'tail', '--outcome', 'nothing')).err).toContain(
      'issued, refused, done, failed',
    )
  })

  it('fault 38: names of nothing are told beside an empty answer', async () => {
    const none = await daemon.deputy(
      'audit',
      'query',
      '--tenant',
      'acmee',
      '--server',
      'notess',
      '--downstream',
      'Ledger',
    )
    expect(none).toMatchObject({ code: 0, out: 'No record matches.\n' })
    for (const near of ["'acme'", "'notes'", "'ledger'"]) expect(none.err).toContain(`Did you mean ${near}`)
    expect((await daemon.deputy('audit', 'export', '--tenant', 'acmee')).err).toContain("Did you mean 'acme'?")
    expect((await daemon.deputy('audit', 'query', '--tenant', 'acme', '--user', 'nobody')).err).toBe('')
  })

  it('fault 38: --since and --until are judged, and bound what is found', async () => {
    for (const args of [
      ['--since', 'yesterday'],
      ['--until', '5'],
      ['--since', '1h', '--until', '2h'],
    ])
      expect([args, (await daemon.deputy('audit', 'query', ...args)).code]).toEqual([args, 2])
    expect((await daemon.deputy('audit', 'query', '--until', '1h')).out).toBe('No record matches.\n')
    expect((await daemon.deputy('audit', 'query', '--since', '1h', '--event', 'daemon.start')).out).toContain(
      'daemon.start',
    )
  })
})

describe('fault 38: commands that do not exist', () => {
  it.each([
    [['nosuch'], 'nosuch', ''],
    [['nosuch', '--help'], 'nosuch', ''],
    [['revok', '--help'], 'revok', "'revoke'"],
    [['--home', '/x', 'statsu'], 'statsu', "'status'"],
    [['tenant', 'frezee', '--help'], 'tenant frezee', "'freeze'"],
    [['tenant', 'nosuch'], 'tenant nosuch', ''],
  ])('fault 38: %j ends with 2 and near names', async (args, name, near) => {
    const { code, out, err } = await runCli(daemon.home, args)
    expect([code, out]).toEqual([2, ''])
    expect(err).toContain(`there is no command 'deputy ${name}'`)
    expect(err).toContain(near)
  })

  it('fault 38: help of what exists is help', async () => {
    expect(await runCli(daemon.home, ['tenant', '--help'])).toMatchObject({ code: 0 })
    expect(await runCli(daemon.home, ['help', 'tenant'])).toMatchObject({ code: 0 })
  })
})

describe('fault 38: readers that go away', () => {
  it('fault 38: a command whose output is read no further ends quietly', async () => {
    for (const args of [['audit', 'export'], ['audit', 'query', '--json'], ['tenant', 'list'], ['--help']]) {
      const { code, err } = await withoutReader(...args, '--home', daemon.home)
      expect([args, [0, 141].includes(code ?? -1), err]).toEqual([args, true, ''])
    }
  })

  it('a SIGHUP that comes while the daemon starts is a reload, and no end', async () => {
    const other = await prepareDaemon(aCompany({ issuer: 'http://127.0.0.1:9' }))
    const child = spawn(process.execPath, [CLI, 'serve', '--home', other.home], { stdio: ['ignore', 'pipe', 'ignore'] })
    let log = ''
    child.stdout.on('data', (chunk: Buffer) => {
      log += chunk.toString('utf8')
    })
    try {
      // As soon as the store is there, long before it listens, and while it begins to.
      await vi.waitFor(() => access(join(other.home, 'state/deputy.db')), { timeout: 60_000, interval: 5 })
      for (let turn = 0; child.exitCode === null && child.signalCode === null && turn < 400; turn += 1) {
        child.kill('SIGHUP')
        await sleep(5)
        if (
          await ask(other, { path: '/healthz' }).then(
            () => true,
            () => false,
          )
        )
          break
      }
      await expect.poll(() => log).toContain('configuration reloaded')
      expect([child.exitCode, child.signalCode]).toEqual([null, null])
      await stopProcess(child)
    } finally {
      await stopProcess(child, 'SIGKILL')
      await other.close()
    }
  })

  it('fault 38: the daemon goes on when its log is read no further', async () => {
    const other = await prepareDaemon(aCompany({ issuer: 'http://127.0.0.1:9' }))
    const child = spawn(process.execPath, [CLI, 'serve', '--home', other.home], { stdio: ['ignore', 'pipe', 'pipe'] })
    try {
      await vi.waitFor(() => ask(other, { path: '/healthz' }), 60_000)
      child.stdout.destroy()
      child.stderr.destroy()
      for (let turn = 0; turn < 3; turn += 1) {
        child.kill('SIGHUP')
        expect((await ask(other, { path: '/healthz' })).status).toBe(200)
        expect((await other.deputy('reload')).code).toBe(0)
      }
      expect([child.exitCode, child.signalCode]).toEqual([null, null])
      await stopProcess(child)
      expect(child.exitCode).toBe(0)
    } finally {
      await stopProcess(child, 'SIGKILL')
      await other.close()
    }
  })
})
