import { readFileSync } from 'node:fs'
import { Client } from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { startVaultDouble, type VaultDouble } from '../doubles/vault.ts'
import { findPostgres, startPostgres, type PostgresServer } from '../peers/postgres.ts'
import { aCompany } from '../support/configuration.ts'
import { prepareDaemonHere, startTestIssuer, type RunningDaemon, type TestIssuer } from '../support/daemon.ts'
import { PROBE, signIn, startExec, type Running } from '../support/exec.ts'
import {
  keepLogins,
  letVaultMakeLogins,
  makeRoles,
  rotationOf,
  vaultSettings,
  type Login,
} from '../support/postgres-logins.ts'
import { stopProcess } from '../support/process.ts'

const uid = process.getuid!()

const bin = findPostgres()
describe.skipIf(bin === undefined)('deputy exec with logins at a real Postgres', () => {
  let server: PostgresServer
  let issuer: TestIssuer
  let vault: VaultDouble
  let daemon: RunningDaemon
  let database: string
  const running: Running[] = []
  /** One daemon for all: a test that leaves a rotation or the sign-in otherwise than it was comes last. */
  beforeAll(async () => {
    server = await startPostgres(bin!)
    issuer = await startTestIssuer()
    vault = await startVaultDouble()
    database = await server.createDatabase()
    await makeRoles(server, database)
    letVaultMakeLogins(vault, server, database)
    const company = aCompany({ issuer: issuer.url })
    const started = (id: string, exec: object) => ({
      ...(company['servers/notes.yaml'] as object),
      server: id,
      resource: `https://${id}.example/mcp`,
      attest: [{ exec: { uid } }],
      login_session: true,
      exec,
      downstreams: { orders: {}, leased: {}, code: { scopes: ['read:user'] }, ledger: { scopes: ['ledger:read'] } },
    })
    daemon = await prepareDaemonHere(
      {
        ...company,
        'state/token': vault.rootToken,
        'servers/notes.yaml': started('notes', {
          env: {
            DATABASE_URL: {
              downstream: 'orders',
              template: `postgresql://{username}:{password}@127.0.0.1:${server.port}/${database}`,
            },
          },
        }),
        'servers/files.yaml': started('files', {
          files: { KEY_FILE: { downstream: 'orders', path: 'login.json' } },
          renew: 'signal',
        }),
        'servers/keeps.yaml': started('keeps', { env: { LOGIN: { downstream: 'orders' } }, renew: 'none' }),
        'servers/leased.yaml': started('leased', { env: { LOGIN: { downstream: 'leased' } } }),
        'servers/tokens.yaml': started('tokens', { env: { TOKEN: { downstream: 'ledger', scopes: ['ledger:read'] } } }),
        'servers/connects.yaml': started('connects', { env: { TOKEN: { downstream: 'code' } } }),
        'downstreams/code.yaml': {
          downstream: 'code',
          credential: 'oauth_grant',
          provider: 'google',
          client: { client_id: 'x' },
          scopes: { 'read:user': 'Read your profile' },
        },
        'downstreams/orders.yaml': { downstream: 'orders', credential: 'static', secret: 'orders-login' },
        'downstreams/leased.yaml': { downstream: 'leased', credential: 'dynamic', backend: 'vault', role: 'reader' },
        'policies/access/orders.cedar': '@id("orders")\npermit (principal is Deputy::User, action, resource);',
        'policies/rotation/orders.yaml': rotationOf(server, database),
      },
      { tokens: { lifetime: '9s' }, secrets: vaultSettings(vault) },
    )
    await signIn(daemon, { tenant: 'acme', user: 'alice', issuer: issuer.url })
    await daemon.start()
    await keepLogins(daemon.home, server)
  })
  afterEach(async () => {
    for (const each of running.splice(0)) await stopProcess(each.process, 'SIGKILL')
  })
  afterAll(async () => {
    await daemon?.close()
    await vault?.close()
    await server?.close()
    await issuer?.close()
  })

  const connected = async <T>(
    { username: user, password }: Login,
    work: (client: Client) => Promise<T>,
  ): Promise<T> => {
    const client = new Client({ host: '127.0.0.1', port: server.port, user, password, database })
    client.on('error', () => undefined)
    try {
      await client.connect()
      return await work(client)
    } finally {
      await client.end().catch(() => undefined)
    }
  }
  const works = (login: Login): Promise<boolean> => connected(login, () => Promise.resolve(true)).catch(() => false)
  const loginOf = (text: string): Login =>
    text.startsWith('{')
      ? (JSON.parse(text) as Login)
      : { username: new URL(text).username, password: new URL(text).password }
  const start = (id: string): Running => {
    const started = startExec(daemon.home, ['--server', id, '--', process.execPath, PROBE, daemon.socketPath, 'plain'])
    running.push(started)
    return started
  }
  const rotate = async (): Promise<void> => {
    expect((await daemon.deputy('rotation', 'run', '--tenant', 'acme', '--name', 'orders-login')).code).toBe(0)
  }
  const history = async (): Promise<string[]> =>
    (JSON.parse((await daemon.deputy('rotation', 'history', '--json')).out) as { state: string }[]).map(
      ({ state }) => state,
    )

  it('promise 7: starts a server anew when its login is rotated, with one that works, before the old one ends', async () => {
    const run = start('notes')
    const before = await run.next()
    const old = loginOf(before.environment['DATABASE_URL']!)
    expect([old.username, await works(old)]).toEqual(['app_a', true])
    await rotate()
    const after = await run.next()
    const login = loginOf(after.environment['DATABASE_URL']!)
    expect([login.username, await works(login), after.pid === before.pid]).toEqual(['app_b', true, false])
    expect(run.err()).toMatch(/have been replaced; restarting it/)
    // Nobody has the old one any more: the grace of a minute need not be waited for.
    await expect.poll(history, { interval: 100 }).toEqual(['done'])
    expect([await works(old), await works(login)]).toEqual([false, true])
    run.write('exit 5')
    expect(await run.exited).toBe(5)
    for (const text of [daemon.output(), run.err(), (await daemon.deputy('audit', 'export')).out])
      for (const { password } of [old, login]) expect(text).not.toContain(password)
  })

  it('promise 7: rewrites the file and tells the server, where that is what it wants', async () => {
    const run = start('files')
    const before = await run.next()
    expect(loginOf(before.file!).username).toBe('app_b')
    await rotate()
    const told = await run.next()
    expect([told.signal, loginOf(told.file!).username, await works(loginOf(told.file!))]).toEqual([
      'SIGHUP',
      'app_a',
      true,
    ])
    await expect.poll(history, { interval: 100 }).toEqual(['done', 'done'])
    expect(loginOf(readFileSync(before.environment['KEY_FILE']!, 'utf8')).username).toBe('app_a')
  })

  it('promise 4: the login that was made for a started server ends with it, unless another one has it still', async () => {
    const [one, two] = [start('leased'), start('leased')]
    const login = loginOf((await one.next()).environment['LOGIN']!)
    expect(loginOf((await two.next()).environment['LOGIN']!)).toEqual(login)
    const leases = async () =>
      JSON.parse((await daemon.deputy('lease', 'list', '--json')).out) as { user: string; server: string }[]
    expect(await leases()).toMatchObject([{ user: 'alice', server: 'leased' }])
    one.write('exit 0')
    expect(await one.exited).toBe(0)
    expect(await works(login)).toBe(true)
    two.process.kill('SIGKILL')
    await two.exited
    await expect.poll(() => works(login), { timeout: 15_000 }).toBe(false)
    await expect.poll(leases, { timeout: 15_000 }).toEqual([])
    const next = start('leased')
    expect(await works(loginOf((await next.next()).environment['LOGIN']!))).toBe(true)
  })

  it('gives a server another token before the one that it has ends', async () => {
    const run = start('tokens')
    const claims = (token: string) =>
      JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString()) as {
        sub: string
        iat: number
        exp: number
        jti: string
      }
    const first = claims((await run.next()).environment['TOKEN']!)
    const second = claims((await run.next()).environment['TOKEN']!)
    expect([first.sub, second.sub, first.jti === second.jti, second.exp > first.exp]).toEqual([
      'alice',
      'alice',
      false,
      true,
    ])
    // By the tokens' own times: a busy machine may be late to start the server that shows the second one.
    expect(second.iat).toBeLessThan(first.exp)
  })

  it('sends a user who has not connected the service to the page, and opens nothing', async () => {
    const run = start('connects')
    expect(await run.exited).toBe(1)
    expect(run.err()).toMatch(
      /has not connected code for connects yet[\s\S]*connect_url: http:\/\/127\.0\.0\.1:\d+\/connect\//,
    )
  })

  it('leaves a server alone that wants it so, and the old one works for as long as the grace lasts', async () => {
    const run = start('keeps')
    const old = loginOf((await run.next()).environment['LOGIN']!)
    await rotate()
    await expect.poll(() => run.err()).toMatch(/keeps keeps the previous one/)
    expect((await daemon.deputy('rotation', 'status')).out).toMatch(
      /Servers that still use the previous version:[\s\S]*keeps/,
    )
    expect(await works(old)).toBe(true)
  })

  it("promise 4: acts for the user for whom it was started alone: a revocation of the user ends it, and so does another user's sign-in", async () => {
    const run = start('leased')
    const { environment } = await run.next()
    expect((await daemon.deputy('revoke', '--tenant', 'acme', '--user', 'alice')).code).toBe(0)
    expect(await run.exited).toBe(1)
    expect(run.err()).toMatch(/A revocation \(user alice of acme\)/)
    await expect.poll(() => works(loginOf(environment['LOGIN']!))).toBe(false)

    await daemon.stop()
    await signIn(daemon, { tenant: 'acme', user: 'bob', issuer: issuer.url })
    await daemon.start()
    const bob = start('notes')
    await bob.next()
    await daemon.stop()
    await signIn(daemon, { tenant: 'acme', user: 'carol', issuer: issuer.url })
    await daemon.start()
    expect(await bob.exited).toBe(1)
    expect(bob.err()).toMatch(/signed in as another user/)
  })
})
