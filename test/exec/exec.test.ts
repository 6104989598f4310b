import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { aCompany } from '../support/configuration.ts'
import { ask, startDaemonProcess, startTestIssuer, type Daemon, type TestIssuer } from '../support/daemon.ts'
import { PROBE, startExec, type Running } from '../support/exec.ts'
import { freePort, runCli, stopProcess } from '../support/process.ts'

const FORM = { 'content-type': 'application/x-www-form-urlencoded' }
const uid = process.getuid!()
const EXEC = {
  on_behalf_of: 'server',
  socket: true,
  env: {
    LEDGER_TOKEN: { downstream: 'ledger', scopes: ['ledger:read'] },
    MAIL_URL: { downstream: 'mail', template: 'smtp://{user}:{password}@mail.example/' },
    MAIL_USER: { downstream: 'mail', field: 'user' },
  },
  files: { KEY_FILE: { downstream: 'mail', field: 'password', path: 'mail/key' } },
}
const server = (given: object = {}) => ({
  attest: [{ exec: { uid } }],
  tenants: ['acme'],
  service_downstreams: { ledger: { scopes: ['ledger:read'] }, mail: {} },
  exec: EXEC,
  ...given,
})
const POLICY =
  '@id("mail-for-servers")\npermit (principal is Deputy::Workload, action == Deputy::Action::"static", resource == Deputy::Downstream::"mail");'

let issuer: TestIssuer
let daemon: Daemon
let tcp: number
/** Of this file alone: whoever starts a command wipes what those before it have left. */
let runtime: string
let shm: string
const running: Running[] = []

beforeAll(async () => {
  issuer = await startTestIssuer()
  tcp = await freePort()
  const company = aCompany({ issuer: issuer.url, notes: server() })
  const another = (id: string, given: object) => ({
    ...(company['servers/notes.yaml'] as object),
    server: id,
    resource: `https://${id}.example/mcp`,
    ...given,
  })
  daemon = await startDaemonProcess(
    {
      ...company,
      'policies/access/mail.cedar': POLICY,
      'servers/old.yaml': another('old', { status: 'deprecated', replaced_by: 'notes' }),
      'servers/gone.yaml': another('gone', { status: 'retired' }),
      'servers/users.yaml': another('users', {
        login_session: true,
        exec: { env: { TOKEN: { downstream: 'ledger' } } },
      }),
      'servers/denied.yaml': another('denied', {
        service_downstreams: { agent: {} },
        exec: { on_behalf_of: 'server', env: { TOKEN: { downstream: 'agent' } } },
      }),
      'servers/others.yaml': another('others', { attest: [{ exec: { uid: uid + 1 } }] }),
      'servers/proxied.yaml': another('proxied', { exec: { on_behalf_of: 'server', proxy: true } }),
      'servers/program.yaml': another('program', {
        attest: [{ exec: { uid, command: '/bin/cat' } }],
        exec: { on_behalf_of: 'server' },
      }),
    },
    { listen: { tcp: `127.0.0.1:${tcp}` } },
  )
  runtime = await mkdtemp('/dev/shm/deputy-test-')
  shm = `${runtime}/deputy-exec-${uid}`
  const password = JSON.stringify({ user: 'mail', password: 'p@ss/w:rd' })
  await runCli(daemon.home, ['secret', 'set', '--tenant', 'acme', '--name', 'mail-key'], password)
})
afterEach(async () => {
  for (const each of running.splice(0)) await stopProcess(each.process, 'SIGKILL')
})
afterAll(async () => {
  await daemon?.close()
  await issuer?.close()
  await rm(runtime, { recursive: true, force: true })
})

const exec = (args: readonly string[], environment: NodeJS.ProcessEnv = {}): Running => {
  const started = startExec(daemon.home, args, { XDG_RUNTIME_DIR: runtime, ...environment })
  running.push(started)
  return started
}
const probe = (mode = 'plain', more: readonly string[] = [], as = 'notes'): Running =>
  exec(['--server', as, ...more, '--', process.execPath, PROBE, daemon.socketPath, mode], {
    DEPUTY_HOME: daemon.home,
    DEPUTY_SOMETHING: 'x',
    KEEP: 'kept',
  })
const records = async (event: string) =>
  (
    JSON.parse((await daemon.deputy('audit', 'query', '--event', event, '--json', '--limit', '1000')).out) as {
      record: { outcome: string; detail: { session?: string; child?: number; attestation?: { method: string } } }
    }[]
  ).map(({ record }) => record)

describe('deputy exec', () => {
  it("promise 5, threat 3: gives a command what its file maps, in environment and files, and nothing of Deputy's own", async () => {
    const run = probe()
    const told = await run.next()
    const { environment } = told
    expect(environment).toMatchObject({
      KEEP: 'kept',
      MAIL_URL: 'smtp://mail:p%40ss%2Fw%3Ard@mail.example/',
      MAIL_USER: 'mail',
      DEPUTY_SOCKET: daemon.socketPath,
    })
    expect(JSON.parse(Buffer.from(environment['LEDGER_TOKEN']!.split('.')[1]!, 'base64url').toString())).toMatchObject({
      sub: 'notes',
      scope: 'ledger:read',
    })
    expect(told.file).toBe('p@ss/w:rd')
    expect(environment['KEY_FILE']).toMatch(new RegExp(`^${shm}/\\d+-\\d+/mail/key$`))
    expect(Object.keys(environment).filter((name) => name.startsWith('DEPUTY_'))).toEqual(['DEPUTY_SOCKET'])
    for (const place of ['environ', 'cmdline'])
      expect(readFileSync(`/proc/${told.pid}/${place}`, 'utf8')).not.toContain('dxs_')
    for (const pid of [told.pid, run.process.pid!])
      expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).not.toMatch(/p@ss|eyJ/)
    expect(told.sockets).toBe(0)
    run.write('exit 7')
    expect(await run.exited).toBe(7)
    expect([run.out().split('\n').length, run.err()]).toEqual([2, ''])
    expect(existsSync(environment['KEY_FILE']!)).toBe(false)
  })

  it('leaves a command no descriptor, and no signal ignored', async () => {
    const run = exec([
      '--server',
      'program',
      '--',
      '/bin/sh',
      '-c',
      'grep SigIgn /proc/self/status; ls /proc/$$/fd; true',
    ])
    expect(await run.exited).toBe(0)
    // No pipe in the shell, and `ls` not its last command: the shell itself would have a pipe's ends open, or be `ls`.
    const [ignored, ...descriptors] = run.out().trim().split('\n')
    expect(ignored).toBe('SigIgn:\t0000000000000000')
    expect(descriptors.filter((fd) => Number(fd) > 2 && Number(fd) < 10)).toEqual([])
  })

  it('is attested as the child that it started, and so are those that the child starts, for as long as it runs', async () => {
    const run = probe()
    await run.next()
    run.write('ask')
    expect((await run.next()).asked).toMatchObject({ status: 200, scope: 'ledger:read' })
    run.write('grandchild')
    expect((await run.next()).asked).toMatchObject({ status: 200 })
    expect((await records('token.client_credentials')).at(-1)).toMatchObject({
      outcome: 'issued',
      detail: { attestation: { method: 'exec' } },
    })
    // This process is of the same user, and no child of it.
    expect(await daemon.token({ grant_type: 'client_credentials', audience: 'ledger' })).toMatchObject({
      status: 401,
      body: { reason: 'workload_unknown' },
    })
    run.write('exit 0')
    expect(await run.exited).toBe(0)
    await expect
      .poll(async () => (await records('exec.end')).length)
      .toBe((await records('exec.begin')).filter(({ outcome }) => outcome === 'done').length)
  })

  it('counts the requests of a child for no more than the program that its file names', async () => {
    const run = probe('plain', [], 'program')
    await run.next()
    run.write('ask')
    expect((await run.next()).asked).toEqual({ status: 401, reason: 'workload_unknown' })
  })

  it('threat 2: a process that claims another one as its child gets nothing', async () => {
    const run = probe()
    const { pid } = await run.next()
    const stranger = spawn('/bin/sleep', ['30'])
    const begin = (about: number, as = 'notes', more = '') =>
      ask(daemon, { path: '/exec', headers: FORM, body: `server=${as}&pid=${about}${more}` })
    for (const claimed of [pid, process.ppid, process.pid, 1, 4_194_304])
      expect([claimed, (await begin(claimed)).body['reason']]).toEqual([claimed, 'exec_not_child'])
    expect((await begin(stranger.pid!, 'others')).body['reason']).toBe('exec_not_registered')
    expect((await begin(stranger.pid!, 'nowhere')).body['reason']).toBe('exec_not_registered')
    expect((await begin(stranger.pid!, 'notes', '&resume=dxs_short')).body['reason']).toBe('malformed_request')
    expect((await ask(daemon, { path: '/exec', headers: FORM, body: 'server=notes&pid=-1' })).body['reason']).toBe(
      'malformed_request',
    )
    expect(
      (await ask({ port: tcp }, { path: '/exec', headers: FORM, body: `server=notes&pid=${pid}` })).body['reason'],
    ).toBe('malformed_request')
    await stopProcess(stranger, 'SIGKILL')
    expect((await begin(stranger.pid!)).body['reason']).toBe('exec_not_child')
    const [refused] = JSON.parse(
      (await daemon.deputy('audit', 'query', '--event', 'exec.begin', '--outcome', 'refused', '--json')).out,
    ) as { id: string }[]
    expect((await daemon.deputy('explain', refused!.id)).out).toMatch(
      /started notes as process \d+, and was refused[\s\S]*Refused \(exec_not_child\)/,
    )
    expect(
      (await records('exec.begin')).some(({ outcome, detail }) => outcome === 'refused' && detail.child === pid),
    ).toBe(true)
  })

  it("promise 4: the session's token is good for its server over TCP, for as long as the child runs, and no longer than its connection", async () => {
    const child = spawn('/bin/cat', [])
    const { request } = await import('node:http')
    const body = `server=notes&pid=${child.pid!}`
    const answer = await new Promise<import('node:http').IncomingMessage>((resolve, reject) => {
      request(
        {
          socketPath: daemon.socketPath,
          path: '/exec',
          method: 'POST',
          agent: false,
          headers: { ...FORM, host: 'localhost', 'content-length': body.length },
        },
        resolve,
      )
        .on('error', reject)
        .end(body)
    })
    const [first] = (await once(answer, 'data')) as [Buffer]
    const { token } = JSON.parse(first.toString()) as { token: string }
    expect(token).toMatch(/^dxs_[\w-]{43}$/)
    const asks = (as = 'notes', secret = token) =>
      ask(
        { port: tcp },
        {
          path: '/oauth2/token',
          headers: { ...FORM, authorization: `Basic ${Buffer.from(`${as}:${secret}`).toString('base64')}` },
          body: 'grant_type=client_credentials&audience=ledger',
        },
      )
    expect((await asks()).status).toBe(200)
    for (const [as, secret] of [
      ['old', token],
      ['notes', `dxs_${'a'.repeat(43)}`],
    ] as const)
      expect((await asks(as, secret)).body['reason']).toBe('exec_session_over')
    await stopProcess(child, 'SIGKILL')
    expect((await asks()).body['reason']).toBe('exec_session_over')
    await expect.poll(() => answer.destroyed || answer.readableEnded || answer.complete).toBe(true)
    for (const text of [daemon.output(), (await daemon.deputy('audit', 'export')).out])
      expect(text).not.toContain(token.slice(4))
  })

  it('passes signals and exit codes through, and ends what ignores them', async () => {
    const dying = probe()
    await dying.next()
    dying.write('die SIGUSR2')
    expect(await dying.exited).toBe(128 + 12)

    const told = probe()
    await told.next()
    told.process.kill('SIGTERM')
    expect(await told.exited).toBe(128 + 15)

    const stubborn = probe('ignore', ['--stop-timeout', '300ms'])
    const { pid } = await stubborn.next()
    stubborn.process.kill('SIGTERM')
    expect((await stubborn.next()).signal).toBe('SIGTERM')
    expect(await stubborn.exited).toBe(128 + 9)
    expect(existsSync(`/proc/${pid}`)).toBe(false)
  })

  it('killed, it wipes nothing and ends the session; the next one wipes what it has left', async () => {
    const run = probe()
    const { environment, pid } = await run.next()
    const file = environment['KEY_FILE']!
    const [id] = (await records('exec.begin'))
      .filter(({ detail }) => detail.child === pid)
      .map(({ detail }) => detail.session)
    run.process.kill('SIGKILL')
    await run.exited
    await expect.poll(async () => (await records('exec.end')).some(({ detail }) => detail.session === id)).toBe(true)
    expect(existsSync(file)).toBe(true)
    const next = probe()
    await next.next()
    expect(existsSync(file)).toBe(false)
  })

  it('goes on while the daemon is started anew, with the same child, and is attested again', async () => {
    const run = probe()
    const { pid } = await run.next()
    for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
      await daemon.stop(signal)
      await expect.poll(() => run.err()).toMatch(/Lost the connection/)
      await daemon.start()
      await expect.poll(() => run.err().match(/Reconnected to Deputy/g)?.length).toBe(signal === 'SIGTERM' ? 1 : 2)
      run.write('ask')
      expect((await run.next()).asked).toMatchObject({ status: 200 })
    }
    expect(existsSync(`/proc/${pid}`)).toBe(true)
    run.write('exit 3')
    expect(await run.exited).toBe(3)
  })

  it('promise 4: a revocation of the server ends the session and the server', async () => {
    const run = probe('plain', [], 'old')
    const { pid } = await run.next()
    expect(run.err()).toMatch(/old is deprecated; move to notes/)
    expect((await daemon.deputy('revoke', '--server', 'old')).code).toBe(0)
    expect(await run.exited).toBe(1)
    expect(run.err()).toMatch(/A revocation \(server old\)[\s\S]*The server is ended/)
    expect(existsSync(`/proc/${pid}`)).toBe(false)
  })

  it('promise 9: says what is in the way, and what to do', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'deputy-exec-test-'))
    const script = join(folder, 'script')
    await writeFile(script, 'no program')
    const failing = async (args: readonly string[], environment: NodeJS.ProcessEnv = {}) => {
      const run = exec(args, environment)
      const code = await run.exited
      return [code, run.err(), run.out()]
    }
    expect(await failing(['--server', 'notes', '--', 'no-such-command'])).toEqual([
      127,
      expect.stringMatching(/not found[\s\S]*Next: .*PATH/),
      '',
    ])
    expect(await failing(['--server', 'notes', '--', script])).toEqual([
      126,
      expect.stringMatching(/is not executable[\s\S]*chmod/),
      '',
    ])
    await chmod(script, 0o755)
    expect(await failing(['--server', 'notes', '--', script])).toEqual([
      126,
      expect.stringMatching(/neither a program nor a script/),
      '',
    ])
    await writeFile(script, '#!/no/such/interpreter\n')
    expect(await failing(['--server', 'notes', '--', script])).toEqual([
      126,
      expect.stringMatching(/interpreter .* does not exist/),
      '',
    ])
    expect(await failing(['--server', 'nowhere', '--', 'cat'])).toEqual([
      1,
      expect.stringMatching(/Unix user \d+ may not start the MCP server nowhere[\s\S]*Next: .*attest: \[/),
      '',
    ])
    expect(await failing(['--server', 'gone', '--', 'cat'])).toEqual([1, expect.stringMatching(/gone is retired/), ''])
    expect(await failing(['--server', 'users', '--', 'cat'])).toEqual([
      1,
      expect.stringMatching(/has no session[\s\S]*Next: .*deputy login/),
      '',
    ])
    expect(await failing(['--server', 'denied', '--', 'cat'])).toEqual([
      1,
      expect.stringMatching(/Policy does not let denied[\s\S]*Next: Run `deputy policy explain/),
      '',
    ])
    expect(await failing(['--server', 'proxied', '--', 'cat'])).toEqual([
      3,
      expect.stringMatching(/no injecting proxy/),
      '',
    ])
    expect(await failing(['--server', 'notes', '--', 'cat'], { DEPUTY_SOCKET: join(folder, 'absent') })).toEqual([
      4,
      expect.stringMatching(/not running[\s\S]*Next: deputy serve/),
      '',
    ])
    expect(
      await failing(['--server', 'notes', '--', 'cat'], { DEPUTY_SOCKET: join(daemon.home, 'run/admin.sock') }),
    ).toEqual([1, expect.stringMatching(/nothing at \/exec/), ''])
    expect(await failing(['--server', 'notes', '--stop-timeout', 'soon', '--', 'cat'])).toEqual([
      2,
      expect.stringMatching(/not a length of time/),
      '',
    ])
    await rm(folder, { recursive: true })
  })
})
