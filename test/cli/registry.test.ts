/** Commands that write files of the registry: what they take, and the check of the whole folder that they end with. */
import { chmod, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { exit } from '../../src/cli/terminal.ts'
import { startIssuerDouble } from '../doubles/issuer.ts'
import { aCompany } from '../support/configuration.ts'
import { prepareDaemon, type Daemon } from '../support/daemon.ts'

const ISSUER = 'http://127.0.0.1:9/'
let home: Daemon
beforeEach(async () => {
  home = await prepareDaemon(aCompany({ issuer: 'http://127.0.0.1:9' }))
})
afterEach(() => home.close())

const filesOf = async (): Promise<string[]> => (await readdir(home.home, { recursive: true })).sort()

describe('fault 31: the commands that add to the registry', () => {
  test.each(['../../x', '../x', '/etc/x', 'a/b', 'A', 'a b', '.x', 'x\n', '__proto__', 'x'.repeat(64), ''])(
    'take no id %j, and write nothing',
    async (id) => {
      const before = await filesOf()
      const serverJson = join(home.home, 'server.json')
      for (const args of [
        ['tenant', 'add', id, '--issuer', ISSUER],
        ['provider', 'add', id, '--from-issuer', ISSUER],
      ]) {
        const { code, err } = await home.deputy(...args)
        expect({ args, code, err }).toEqual({
          args,
          code: exit.usage,
          err: expect.stringContaining('cannot be the id of a'),
        })
      }
      // The id of a server is made from its name in the registry.
      await writeFile(serverJson, JSON.stringify({ name: `io.example/${id}`, description: 'x', version: '1.0.0' }))
      await home.deputy('server', 'import', serverJson, '--owner', 'ops', '--tenant', 'acme')
      await rm(serverJson)
      const added = (await filesOf()).filter((file) => !before.includes(file))
      expect(added.filter((file) => !/^servers\/[a-z0-9][a-z0-9._-]*\.yaml$/.test(file))).toEqual([])
    },
  )

  test('take no URL that the files do not take', async () => {
    const before = await filesOf()
    for (const args of [
      ['tenant', 'add', 'new', '--issuer', 'ftp://x'],
      ['issuer', 'add', 'https://user:pass@idp.example', '--tenant', 'acme'],
    ])
      expect(await home.deputy(...args)).toMatchObject({
        code: exit.usage,
        err: expect.stringContaining('cannot be the URL'),
      })
    expect(await filesOf()).toEqual(before)
    expect(await readFile(join(home.home, 'tenants/acme.yaml'), 'utf8')).not.toContain('idp.example')
  })

  test('write the file and find the folder in order', async () => {
    await rm(join(home.home, 'tenants'), { recursive: true })
    await writeFile(join(home.home, 'servers/notes.yaml'), '')
    await rm(join(home.home, 'servers/notes.yaml'))
    await rm(join(home.home, 'policies'), { recursive: true })
    expect(await home.deputy('tenant', 'add', 'new', '--offline', '--issuer', 'https://idp.example')).toEqual({
      code: exit.ok,
      out: 'tenants/new.yaml is written.\nNext: deputy server add NAME --resource URL --tenant new --uid USER\n',
      err: '',
    })
    expect(await home.deputy('tenant', 'add', 'new', '--issuer', 'https://idp.example')).toMatchObject({
      code: exit.failed,
      err: expect.stringContaining('tenants/new.yaml defines the tenant new already'),
    })
  })

  test('fault 75: ask the issuer, and say what keeps its tokens from being verified', async () => {
    const issuer = await startIssuerDouble(Date.now, '/realms/acme')
    try {
      await home.write({
        'deputy.yaml': { environment: 'test', issuer: 'https://deputy.example', network: { allow_loopback: true } },
      })
      expect(await home.deputy('tenant', 'add', 'good', '--issuer', issuer.url)).toMatchObject({
        code: exit.ok,
        err: '',
      })
      const slash = await home.deputy('tenant', 'add', 'slip', '--issuer', `${issuer.url}/`)
      expect([slash.code, slash.err]).toEqual([exit.ok, expect.stringMatching(/cannot be verified yet: .*names/)])
      const gone = await home.deputy('issuer', 'add', `${issuer.url}-gone`, '--tenant', 'good')
      expect([gone.code, gone.err]).toEqual([exit.ok, expect.stringMatching(/cannot be verified yet: .*404/)])
      // An issuer's words steer no terminal.
      const hostile = createServer((request, response) => {
        const { port } = hostile.address() as AddressInfo
        const url = `http://127.0.0.1:${port}`
        if (request.url?.includes('well-known') !== true) response.writeHead(404)
        response.end(JSON.stringify({ issuer: url, jwks_uri: `${url}/\u001b]0;x\u0007\u202ekeys` }))
      }).listen(0, '127.0.0.1')
      await once(hostile, 'listening')
      const url = `http://127.0.0.1:${(hostile.address() as AddressInfo).port}`
      const steered = await home.deputy('issuer', 'add', url, '--tenant', 'good')
      hostile.close()
      expect([steered.code, /[^\x20-\x7e\n…]/.test(steered.err), steered.err]).toEqual([
        exit.ok,
        false,
        expect.stringContaining('\\u{1b}]0;x\\u{7}\\u{202e}keys answered 404'),
      ])
      expect(await home.deputy('issuer', 'add', `${issuer.url}-off`, '--tenant', 'good', '--offline')).toMatchObject({
        code: exit.ok,
        err: '',
      })
    } finally {
      await issuer.close()
    }
  })

  test('say what the change has brought in, and apart from it what was wrong before', async () => {
    await home.write({
      'tenants/globex.yaml': { tenant: 'globex', issuers: [{ issuer: 'https://idp.example' }], nmae: 'x' },
    })
    const serverJson = join(home.home, 'server.json')
    await writeFile(serverJson, JSON.stringify({ name: 'io.example/new', description: 'x', version: '1.0.0' }))
    const files = await filesOf()
    const { code, out, err } = await home.deputy('server', 'import', serverJson, '--owner', 'ops', '--tenant', 'acm')
    expect([code, out, await filesOf()]).toEqual([exit.configuration, '', files])
    const [before, fresh] = err.split('problems from this change:\n')
    expect(before).toMatch(/^Problems from before this change:\ntenants\/globex\.yaml:\d+.*nmae/)
    expect(before).toContain('servers/io.example.new.yaml was taken back, because of ')
    expect(fresh).toMatch(/^servers\/io\.example\.new\.yaml:\d+.*acm/)
    expect(fresh).not.toContain('globex')
  })

  test('fail by no problem that was there before', async () => {
    await home.write({
      'tenants/globex.yaml': { tenant: 'globex', issuers: [{ issuer: 'https://idp.example' }], nmae: 'x' },
    })
    const { code, err } = await home.deputy('server', 'deprecate', 'notes')
    expect(code).toBe(exit.ok)
    expect(err).toMatch(/^Problems from before this change:\ntenants\/globex\.yaml/)
    expect(err).not.toContain('Problems from this change')
  })

  test('end in a sentence where there is no home, or the folder cannot be written', async () => {
    await mkdir(join(home.home, 'empty'))
    const { runCli } = await import('../support/process.ts')
    expect(await runCli(join(home.home, 'empty'), ['tenant', 'add', 'x', '--issuer', ISSUER])).toEqual({
      code: exit.configuration,
      out: '',
      err: expect.stringContaining(': deputy init'),
    })
    await rm(join(home.home, 'tenants'), { recursive: true })
    await writeFile(join(home.home, 'tenants'), '')
    await chmod(join(home.home, 'tenants'), 0o600)
    const { code, err } = await home.deputy('tenant', 'add', 'x', '--issuer', ISSUER)
    expect(code).toBe(exit.failed)
    expect(err).toContain('exists and is no folder')
    expect(err).not.toContain('    at ')
  })
})
