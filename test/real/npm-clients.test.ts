/**
 * `mcp-remote` and the command line of the MCP inspector, unmodified, sign their user in at Deputy: each knows the server's URL alone. The users sign in at an
 * oidc-provider that knows no client but Deputy.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { needPeer } from '../peers/programs.ts'
import { type RunningMcpServer, startMcpServer } from '../support/mcp.ts'
import { freePort } from '../support/process.ts'
import { signInFiles, startSignInWorld, type SignInWorld } from '../support/sign-in.ts'

const PEERS = join(import.meta.dirname, '../peers')
/** ms after which a program that waits for what does not come is ended. */
const PROGRAM_LIMIT_MS = 90_000

const remote = await needPeer('mcp-remote')
const inspector = await needPeer('inspector')

let world: SignInWorld
let server: RunningMcpServer
let home: string

const run = async (program: string, ...args: string[]): Promise<{ code: number; out: string; err: string }> => {
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      PATH: `${join(home, 'bin')}:${process.env['PATH'] ?? ''}`,
      BROWSER: join(home, 'bin/xdg-open'),
      HOME: home,
      MCP_REMOTE_CONFIG_DIR: join(home, 'mcp-remote'),
      MCP_AUTO_OPEN_ENABLED: 'true',
      DEPUTY_TEST_USER: 'alice',
      DEPUTY_TEST_VISITS: join(home, 'visits'),
    },
    timeout: PROGRAM_LIMIT_MS,
    killSignal: 'SIGKILL',
  })
  const written = { out: '', err: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => (written.out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (written.err += text))
  const [code] = (await once(child, 'exit')) as [number]
  return { code, ...written }
}

const visits = async (): Promise<URLSearchParams[]> =>
  (await readFile(join(home, 'visits'), 'utf8'))
    .split('\n')
    .filter((line) => line !== '')
    .map((url) => new URL(url).searchParams)

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'deputy-npm-clients-'))
  await mkdir(join(home, 'bin'))
  const browser = `#!/bin/sh\nexec ${process.execPath} ${join(PEERS, 'browser.ts')} "$1" >>${join(home, 'browser.log')} 2>&1\n`
  await writeFile(join(home, 'bin/xdg-open'), browser)
  await chmod(join(home, 'bin/xdg-open'), 0o755)
  const port = await freePort()
  const resource = `http://127.0.0.1:${port}/mcp`
  world = await startSignInWorld(({ idp }) => ({
    'servers/notes.yaml': {
      ...(signInFiles(idp)['servers/notes.yaml'] as object),
      resource,
      tools: { add_note: { requires: ['notes:write'] } },
    },
  }))
  server = await startMcpServer({
    sdk: 'v2',
    port,
    socket: world.daemon.socketPath,
    tools: {
      whoami: ({ user }) => `${user.sub} of ${user.tenant}`,
      add_note: ({ user }) => user.scopes.toSorted().join(' '),
    },
  })
})
afterAll(async () => {
  await server?.close()
  await world?.close()
  await rm(home, { recursive: true, force: true })
})

describe('programs of npm that sign their user in at Deputy', () => {
  it('mcp-remote gives a client of stdio the tools of the server, and asks for more scopes', async ({ skip }) => {
    if (remote === undefined) return skip()
    await writeFile(join(home, 'visits'), '')
    const client = [join(PEERS, 'mcp-clients/with-stdio.ts'), 'whoami', 'add_note', '--']
    const { out, err } = await run(process.execPath, ...client, join(remote, 'mcp-remote'), server.url, '--allow-http')
    const log = `${out}\n${err}\n${await readFile(join(home, 'browser.log'), 'utf8').catch(() => '')}`
    const steps = out.split('\n').filter((line) => line.startsWith('{"'))
    expect(
      steps.map((line) => JSON.parse(line) as object),
      log,
    ).toEqual([
      { step: 'tools', tools: ['whoami', 'add_note'] },
      { step: 'whoami', text: 'alice of acme', isError: false },
      { step: 'add_note', text: 'notes:read notes:write', isError: false },
    ])
    const [first] = await visits()
    expect([first?.get('resource'), first?.get('code_challenge_method')]).toEqual([server.url, 'S256'])
  })

  it('the inspector calls a tool for the user', async ({ skip }) => {
    if (inspector === undefined) return skip()
    await writeFile(join(home, 'visits'), '')
    const { code, out, err } = await run(
      join(inspector, 'mcp-inspector'),
      '--cli',
      server.url,
      '--transport',
      'http',
      '--format',
      'json',
      '--connect-timeout',
      '60000',
      '--method',
      'tools/call',
      '--tool-name',
      'whoami',
    )
    expect([code, out], `${err}${await readFile(join(home, 'browser.log'), 'utf8').catch(() => '')}`).toEqual([
      0,
      expect.stringContaining('alice of acme'),
    ])
    expect(await visits()).toHaveLength(1)
  })
})
