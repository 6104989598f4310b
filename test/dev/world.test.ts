/** `deputy dev` as a process: the world of an author, from the printed text alone. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { WorldView } from '../../src/cli/dev-views.ts'
import { signInFromNothing } from '../../quickstart/mcp-client.ts'
import { createBrowser } from '../peers/walk.ts'
import { connectMcpClient } from '../support/mcp.ts'
import { CLI, runCli, startProcess, stopProcess } from '../support/process.ts'

/** The folder in which temporary worlds are made. */
let temporary: string
let environment: NodeJS.ProcessEnv
const folder = (): string => join(temporary, 'kept')

interface Running {
  readonly child: ChildProcess
  readonly world: WorldView
  said(): string
}

const startDev = async (...args: string[]): Promise<Running> => {
  let said = ''
  const child = await startProcess([CLI, 'dev', '--json', ...args], /^\{.*\}\n/m, environment, (text) => {
    said += text
  })
  return { child, world: JSON.parse(/^\{.*\}$/m.exec(said)![0]) as WorldView, said: () => said }
}

/** Runs a line of a shell as a person would who has `deputy` on the path. */
const sh = async (line: string): Promise<string> => {
  const child = spawn('sh', ['-c', `deputy() { '${process.execPath}' '${CLI}' "$@"; }\n${line}`], { env: environment })
  let out = ''
  child.stdout.on('data', (text: Buffer) => (out += text.toString('utf8')))
  await new Promise((resolve) => child.once('close', resolve))
  return out
}

const failing = async (...args: string[]): Promise<string> => {
  const child = spawn(process.execPath, [CLI, 'dev', ...args], { env: environment })
  let err = ''
  child.stderr.on('data', (text: Buffer) => (err += text.toString('utf8')))
  const code = await new Promise((resolve) => child.once('close', resolve))
  expect(code).not.toBe(0)
  return err
}

/** A request with any `Host`. */
const statusOf = (url: string, headers: Record<string, string>, method = 'GET'): Promise<number | undefined> =>
  new Promise((resolve, reject) => {
    request(url, { headers, method }, (response) => {
      response.resume()
      resolve(response.statusCode)
    })
      .on('error', reject)
      .end()
  })

let running: Running
beforeAll(async () => {
  temporary = await mkdtemp(join(tmpdir(), 'dev-test-'))
  environment = { ...process.env, TMPDIR: temporary, HOME: temporary }
  running = await startDev('--explain', '--home', folder())
})
afterAll(async () => {
  if (running !== undefined) await stopProcess(running.child, 'SIGINT')
  await rm(temporary, { recursive: true, force: true })
})

const tokenOf = async (user: string): Promise<string> =>
  (await runCli(folder(), ['dev', 'token', '--user', user])).out.trim()
const callAs = async (user: string, tool: string, args: Record<string, unknown> = {}) => {
  const client = await connectMcpClient({ sdk: 'v2', url: running.world.mcp, token: await tokenOf(user) })
  try {
    return { tools: await client.tools(), ...(await client.call(tool, args)) }
  } finally {
    await client.close()
  }
}

describe('a world with the example server', () => {
  it('has lines that work as they are printed: a token, an exchange, a call of the service', async () => {
    const { home, token, exchange, call, tool } = running.world.next
    const [called, ...answered] = (await sh([home, token, exchange, call, tool].join('\n'))).split('\n')
    expect(JSON.parse(called!)).toEqual({ user: 'alice-notes', notes: ['A note of alice-notes'] })
    expect(answered.join('\n')).toContain('A note of alice-notes')
  })

  it('gives alice all tools, bob those that policy permits and a link, and carol none', async () => {
    expect(await callAs('alice', 'add_note', { text: 'Buy milk' })).toMatchObject({
      tools: ['list_notes', 'add_note'],
      isError: false,
    })
    expect((await callAs('alice', 'list_notes')).text).toContain('Buy milk')
    const asked = await callAs('bob', 'list_notes')
    expect(asked).toMatchObject({ tools: ['list_notes'], isError: true })
    const link = /http:\S+\/connect\/\S+/.exec(asked.text)![0]
    const browser = createBrowser()
    let page = await browser.open(link)
    for (let form = 0; form < 6 && page.body.includes('<form'); form += 1) {
      const isCompany = page.url.startsWith(running.world.identity_provider)
      page = await browser.submit(
        page,
        page.body.includes('name="login"') ? { login: isCompany ? 'bob' : 'bob-notes' } : { decision: 'allow' },
      )
    }
    expect(page.body).toContain('Connected')
    expect(await callAs('bob', 'list_notes')).toMatchObject({ isError: false })
    const carol = await connectMcpClient({ sdk: 'v2', url: running.world.mcp, token: await tokenOf('carol') })
    expect(await carol.tools()).toEqual([])
    await carol.close()
  })

  it('signs a user in at an MCP client that knows the address alone', async () => {
    const { mcp } = running.world
    const token = await signInFromNothing(mcp, ({ body }) =>
      body.includes('name="login"') ? { login: 'bob' } : { decision: 'allow' },
    )
    const client = await connectMcpClient({ sdk: 'v2', url: mcp, token })
    expect(await client.call('list_notes')).toMatchObject({ isError: false })
    await client.close()
  })

  it('tells each exchange in one line, with its reason', async () => {
    const lines = () => running.said().split('\n')
    await expect
      .poll(lines)
      .toContainEqual(
        expect.stringMatching(
          /alice > my-server > add_note > notes-api notes:write {2}issued \(engineers-use-notes/,
        ) as string,
      )
    await expect
      .poll(lines)
      .toContainEqual(
        expect.stringMatching(
          /bob > my-server > list_notes .* refused \(interaction_required: .*\) {2}[\w-]{20,}$/,
        ) as string,
      )
  })

  it('reads a changed policy at once, and says where one is wrong', async () => {
    const path = join(folder(), 'policies/access/dev.cedar')
    const before = await readFile(path, 'utf8')
    await writeFile(path, before.replaceAll('acme/sales', 'acme/contractors'))
    await expect
      .poll(async () => (await callAs('carol', 'list_notes').catch(() => undefined))?.tools)
      .toEqual(['list_notes'])
    await writeFile(path, `${before}permit (`)
    await expect.poll(running.said).toMatch(/deputy: policies\/access\/dev\.cedar:\d+:\d+.* Unexpected end of input/)
    await writeFile(path, before)
  })

  it('answers to names of loopback alone, and to no form of another site', async () => {
    const { identity_provider: idp, notes_api: api } = running.world
    for (const url of [`${idp}/.well-known/openid-configuration`, `${api}/notes`]) {
      expect(await statusOf(url, { host: `evil.example:${new URL(url).port}` })).toBe(403)
      expect(await statusOf(url, { host: `localhost:${new URL(url).port}` })).not.toBe(403)
    }
    expect(await statusOf(`${idp}/interaction/x`, { origin: 'https://evil.example' }, 'POST')).toBe(403)
    expect(await statusOf(`${idp}/interaction/x`, { origin: idp }, 'POST')).not.toBe(403)
    expect(await statusOf(`${idp}/interaction/x`, { origin: idp, 'content-length': '20000' }, 'POST')).toBe(403)
    const unsecured = await fetch(`${idp}/token`, {
      method: 'POST',
      body: new URLSearchParams({
        grant_type: 'urn:deputy:dev:user-token',
        client_id: 'deputy-dev-token',
        user: 'alice',
        resource: running.world.mcp,
      }),
    })
    expect(unsecured.status).toBe(401)
  })

  it('says in a sentence what keeps a second one from starting', async () => {
    const taken = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => taken.once('listening', resolve))
    const { port } = taken.address() as AddressInfo
    const [second, onPort, noFolder, real, noProgram, noUser] = await Promise.all([
      failing('--home', folder()),
      failing('--port', String(Math.min(port, 65_531))),
      failing('--home', join(folder(), 'deputy.yaml/dev')),
      failing('--home', join(temporary, '.deputy')),
      failing('--', 'no-such-program'),
      failing('token', '--user', 'eve', '--home', folder()),
    ])
    taken.close()
    expect(second).toMatch(/^A development world runs in .*\nNext: End it with Ctrl-C/)
    expect(onPort).toMatch(/^Port \d+ is taken; .*\nNext: Give another/)
    expect(noFolder).toMatch(/^The folder .* cannot be used \(\w+\)\.\nNext: /)
    expect(real).toMatch(/is a place of a real Deputy/)
    expect(noProgram).toMatch(/^no-such-program could not be started \(ENOENT\)/)
    expect(noUser).toContain('The users are alice, bob, carol.')
    // None of them has left a folder.
    expect((await readdir(temporary)).filter((name) => name.startsWith('deputy-dev-'))).toEqual([])
    expect(existsSync(join(temporary, '.deputy'))).toBe(false)
  })

  it('is the same world at its next start in the folder, with what users have connected', async () => {
    await writeFile(
      join(folder(), 'servers/my-server.yaml'),
      `${await readFile(join(folder(), 'servers/my-server.yaml'), 'utf8')}# Mine.\n`,
    )
    const before = running.world
    await stopProcess(running.child, 'SIGINT')
    expect(running.child.exitCode).toBe(0)
    expect((await runCli(folder(), ['dev', 'token'])).err).toContain('is not running')
    running = await startDev('--explain', '--home', folder())
    expect({ ...running.world, token: '' }).toEqual({ ...before, token: '' })
    expect(await callAs('bob', 'list_notes')).toMatchObject({ isError: false })
    expect(await readFile(join(folder(), 'servers/my-server.yaml'), 'utf8')).toContain('# Mine.')
  })
})

it('the command after -- is the server of a temporary world: the kernel says who it is, and it ends with the world', async () => {
  const script = `
    import { request } from 'node:http'
    import { createServer } from 'node:http'
    createServer((_, answer) => request({ socketPath: process.env.DEPUTY_SOCKET, path: '/server', method: 'POST', headers: { host: 'localhost', 'content-type': 'application/x-www-form-urlencoded' } }, (r) => r.pipe(answer)).end()).listen(process.env.PORT)
    console.log('mine runs as ' + process.pid)`
  const { child, world, said } = await startDev('--', process.execPath, '--input-type=module', '-e', script)
  let pid = 0
  try {
    await expect.poll(said).toMatch(/mine runs as \d+/)
    pid = Number(/mine runs as (\d+)/.exec(said())![1])
    const answered = async (): Promise<unknown> => (await fetch(world.mcp)).json()
    await expect.poll(() => answered().catch(() => undefined)).toMatchObject({ server: 'my-server' })
    // Without --home, the one temporary world that runs is meant.
    expect(await sh('deputy dev token')).toMatch(/^eyJ[\w.-]+\n$/)
  } finally {
    await stopProcess(child, 'SIGINT')
  }
  expect(existsSync(world.home)).toBe(false)
  expect(() => process.kill(pid, 0)).toThrow('ESRCH')
})
