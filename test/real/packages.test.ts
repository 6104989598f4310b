/** The packages, from the packed files alone: installed into clean folders by a user with an empty home. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makePackages } from '../../scripts/release/main.ts'
import type { WorldView } from '../../src/cli/dev-views.ts'
import { lookForProgram, needPeer } from '../peers/programs.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import { startDaemonHere, startTestIssuer, type DaemonHere, type TestIssuer } from '../support/daemon.ts'
import { connectMcpClient } from '../support/mcp.ts'

const SDK_BYTES = 150_000
/** ms. */
const COMMAND_LIMIT = 240_000
const NODE_FOLDER = dirname(process.execPath)

let folder: string
let packed: readonly string[]
const packedAs = (start: string): string => packed.find((path) => path.split('/').at(-1)!.startsWith(start))!

const ran = async (
  program: string,
  args: readonly string[],
  { cwd = folder, path = NODE_FOLDER, input = '' }: { cwd?: string; path?: string; input?: string } = {},
): Promise<{ code: number | null; out: string; err: string }> => {
  const child = spawn(program, args, {
    cwd,
    env: {
      // How this machine reaches the registry.
      ...process.env,
      PATH: [path, ...(process.env['PATH'] ?? '').split(delimiter)].join(delimiter),
      HOME: join(folder, 'home'),
      // What is packed and what the registry has; nothing of the user's own npm.
      npm_config_cache: join(folder, 'npm-cache'),
      npm_config_update_notifier: 'false',
    },
    timeout: COMMAND_LIMIT,
  })
  const told = { out: '', err: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => (told.out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (told.err += text))
  child.stdin.end(input)
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, ...told }
}

const unpack = async (path: string, name: string): Promise<string> => {
  const to = join(folder, name)
  await mkdir(to, { recursive: true })
  expect(await ran('tar', ['xzf', path, '-C', to, '--strip-components=1'])).toMatchObject({ code: 0 })
  return to
}

/** The command of the installed package; the folder is made once. */
let installation: Promise<string> | undefined
const installDeputy = async (): Promise<string> => {
  const clean = await mkdtemp(join(folder, 'daemon-'))
  await writeFile(join(clean, 'package.json'), '{"private":true}')
  expect(await ran('npm', ['install', '--no-audit', '--no-fund', packedAs('deputy-0')], { cwd: clean })).toMatchObject({
    code: 0,
  })
  return join(clean, 'node_modules/.bin/deputy')
}
const installedDeputy = (): Promise<string> => (installation ??= installDeputy())

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'deputy-packed-'))
  await mkdir(join(folder, 'home'))
  packed = await makePackages(join(folder, 'packages'))
}, COMMAND_LIMIT)
afterAll(() => rm(folder, { recursive: true, force: true }))

describe('the packages', () => {
  it('are the same bytes when they are made again', async () => {
    const again = await makePackages(join(folder, 'again'))
    expect(again.map((path) => path.split('/').at(-1))).toEqual(packed.map((path) => path.split('/').at(-1)))
    for (const [at, path] of again.entries())
      expect((await readFile(path)).equals(await readFile(packed[at]!))).toBe(true)
  })

  it(
    'deputy: is installed from its file, makes a folder, checks it and serves',
    { timeout: COMMAND_LIMIT },
    async () => {
      const deputy = await installedDeputy()
      const { version } = JSON.parse(await readFile(join(import.meta.dirname, '../../package.json'), 'utf8')) as {
        version: string
      }
      expect(await ran(deputy, ['--version'])).toMatchObject({ code: 0, out: `${version}\n` })
      const home = join(folder, 'home/deputy')
      expect(await ran(deputy, ['init', home])).toMatchObject({ code: 0 })
      expect(await ran(deputy, ['check', '--home', home])).toMatchObject({ code: 0 })
      const served: ChildProcess = spawn(deputy, ['serve', '--home', home], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: { PATH: NODE_FOLDER, HOME: join(folder, 'home') },
      })
      const ended = once(served, 'exit')
      try {
        let said = ''
        served.stdout!.setEncoding('utf8').on('data', (text: string) => (said += text))
        await expect.poll(() => said, { timeout: 30_000 }).toContain('deputy is ready')
        const status = await ran(deputy, ['status', '--home', home])
        expect(status.out).toContain(': ready')
        expect(await ran(deputy, ['audit', 'verify', '--home', home])).toMatchObject({ code: 0 })
      } finally {
        served.kill('SIGTERM')
        await ended
      }
      expect(await readFile(join(dirname(deputy), '../deputy/THIRD-PARTY.txt'), 'utf8')).toContain('oidc-provider')
    },
  )

  it(
    'deputy: a developer has a world, a token, a credential and a call of a tool out of one command',
    { timeout: COMMAND_LIMIT },
    async () => {
      const deputy = await installedDeputy()
      const child = spawn(deputy, ['dev', '--json'], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: { PATH: NODE_FOLDER, HOME: join(folder, 'home'), TMPDIR: folder },
      })
      const ended = once(child, 'exit')
      try {
        let said = ''
        child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text))
        await expect.poll(() => said, { timeout: 30_000 }).toContain('\n')
        const world = JSON.parse(said) as WorldView
        const path = [dirname(deputy), NODE_FOLDER].join(delimiter)
        const { token, exchange, call } = world.next
        const { out } = await ran('sh', ['-c', [token, exchange, call].join('\n')], { path })
        expect(JSON.parse(out)).toEqual({ user: 'alice-notes', notes: ['A note of alice-notes'] })
        const client = await connectMcpClient({ sdk: 'v2', url: world.mcp, token: world.token })
        expect(await client.call('add_note', { text: 'From the packed file' })).toMatchObject({ isError: false })
        expect((await client.call('list_notes')).text).toContain('From the packed file')
        await client.close()
      } finally {
        child.kill('SIGINT')
        await ended
      }
      expect(child.exitCode).toBe(0)
      expect((await readdir(folder)).filter((name) => name.startsWith('deputy-dev-'))).toEqual([])
      expect(existsSync(join(folder, 'home/.deputy'))).toBe(false)
    },
  )

  it('deputy: says on an older Node what it needs', async () => {
    const launcher = join(await unpack(packedAs('deputy-0'), 'unpacked'), 'bin/deputy.cjs')
    const older = `Object.defineProperty(process.versions, 'node', { value: '20.19.0' }); require(${JSON.stringify(launcher)})`
    const { code, err } = await ran(process.execPath, ['-e', older])
    expect(code).toBe(1)
    expect(err).toMatch(/^Deputy needs Node 24 or later, and this is Node 20\.19\.0/)
    // The name deputy in npm's registry is another project.
    expect(err.trimEnd().endsWith(`npx --package=node@24 -- node ${launcher}`)).toBe(true)
  })

  describe('deputy-sdk', () => {
    let issuer: TestIssuer
    let daemon: DaemonHere
    let clean: string

    beforeAll(async () => {
      issuer = await startTestIssuer()
      daemon = await startDaemonHere(
        aCompany({ issuer: issuer.url, notes: { downstreams: { ledger: { scopes: ['ledger:read'] } } } }),
      )
      const unpacked = await unpack(packedAs('deputy-sdk'), 'sdk/node_modules/deputy-sdk')
      clean = dirname(dirname(unpacked))
    })
    afterAll(async () => {
      await daemon?.close()
      await issuer?.close()
    })

    /** Any Node of at least 20 that the machine has beside the pinned one. */
    const others = ['/usr/bin/node', '/usr/local/bin/node'].filter(existsSync)

    it('has no dependency, is small, and gets a credential on each Node that is here', async () => {
      const installed = join(clean, 'node_modules/deputy-sdk')
      const names = await readdir(installed, { recursive: true })
      const sizes = await Promise.all(names.map(async (name) => (await stat(join(installed, name))).size))
      expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(SDK_BYTES)
      const described = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8')) as Record<string, unknown>
      expect(described['dependencies']).toBeUndefined()
      await writeFile(
        join(clean, 'use.mjs'),
        `import { connectDeputy } from 'deputy-sdk'
const deputy = connectDeputy({ socket: ${JSON.stringify(daemon.socketPath)} })
const token = await deputy.token({ downstream: 'ledger', onBehalfOf: process.env.SUBJECT ?? process.argv[2], scopes: ['ledger:read'] })
console.log(token.scopes.join(' '))
deputy.close()`,
      )
      const subject = await issuer.sign({ aud: RESOURCES.notes, org: 'acme', exp: Math.floor(Date.now() / 1000) + 600 })
      for (const node of [process.execPath, ...others])
        expect(await ran(node, ['use.mjs', subject], { cwd: clean })).toMatchObject({ code: 0, out: 'ledger:read\n' })
    })

    it('has types for both MCP SDKs, which a strict project takes', async () => {
      await mkdir(join(clean, 'node_modules/@types'), { recursive: true })
      const modules = join(import.meta.dirname, '../../node_modules')
      for (const name of ['@modelcontextprotocol', 'zod', '@types/node', 'undici-types'])
        if (existsSync(join(modules, name))) await symlink(join(modules, name), join(clean, 'node_modules', name))
      await writeFile(
        join(clean, 'use.ts'),
        `import { connectDeputy, DeputyClientError } from 'deputy-sdk'
import { createMcpListener } from 'deputy-sdk/mcp'
import { createMcpListener as createV1 } from 'deputy-sdk/mcp-v1'
const answer: Promise<Response> = connectDeputy().fetch('notes-api', { onBehalfOf: 'x' } as never)('https://notes.example')
void [answer, createMcpListener, createV1, DeputyClientError]`,
      )
      const compiled = await ran(
        process.execPath,
        [
          join(modules, 'typescript/bin/tsc'),
          '--noEmit',
          '--strict',
          '--module',
          'nodenext',
          '--target',
          'es2023',
          '--types',
          'node',
          'use.ts',
        ],
        { cwd: clean },
      )
      expect(compiled).toMatchObject({ code: 0, out: '' })
    })
  })

  it(
    'deputy-client: is a wheel that a clean environment imports, with its licence',
    { timeout: COMMAND_LIMIT },
    async () => {
      const environment = join(folder, 'python')
      expect(await ran('python3', ['-m', 'venv', environment])).toMatchObject({ code: 0 })
      const python = join(environment, 'bin/python')
      expect(
        await ran(python, ['-m', 'pip', 'install', '--no-index', '--no-deps', packedAs('deputy_client')]),
      ).toMatchObject({ code: 0 })
      const { code, out } = await ran(python, [
        '-c',
        'import importlib.metadata as m, deputy_client; f = [str(x) for x in m.files("deputy-client")]; print(any("LICENSE" in x for x in f), m.version("deputy-client"), deputy_client.connect_deputy.__name__)',
      ])
      expect({ code, out }).toEqual({ code: 0, out: expect.stringMatching(/^True \S+ connect_deputy\n$/) as string })
    },
  )

  it('deputy-client: is what the package index takes, by twine', { timeout: COMMAND_LIMIT }, async ({ skip }) => {
    const chosen = lookForProgram('twine', 'twine')
    const twine = chosen ?? (await needPeer('twine').then((bin) => bin && join(bin, 'twine')))
    if (twine === undefined) return skip()
    const checked = await ran(twine, ['check', '--strict', packedAs('deputy_client')])
    expect(checked).toMatchObject({ code: 0, out: expect.stringContaining('PASSED') as string })
  })
})
