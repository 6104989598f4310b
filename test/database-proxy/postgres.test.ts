import { execFile, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { once } from 'node:events'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { Client as McpClient } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'
import { Client, type DatabaseError } from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { startVaultDouble, type VaultDouble } from '../doubles/vault.ts'
import { findPostgres, startPostgres, type PostgresServer } from '../peers/postgres.ts'
import { aCompany } from '../support/configuration.ts'
import { prepareDaemonHere, startTestIssuer, type RunningDaemon, type TestIssuer } from '../support/daemon.ts'
import { signIn } from '../support/exec.ts'
import {
  asAdmin,
  keepLogins,
  letVaultMakeLogins,
  makeRoles,
  rotationOf,
  vaultSettings,
} from '../support/postgres-logins.ts'
import { CLI, runCli } from '../support/process.ts'
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts'

const SERVER_POSTGRES = join(
  import.meta.dirname,
  '../../node_modules/@modelcontextprotocol/server-postgres/dist/index.js',
)
const uid = process.getuid!()

const bin = findPostgres()
describe.skipIf(bin === undefined)('PostgreSQL through Deputy', () => {
  let server: PostgresServer
  let issuer: TestIssuer
  let vault: VaultDouble
  let daemon: RunningDaemon
  let database: string
  /** To the server of the downstream `far`. */
  let line: TcpProxy
  /** One daemon for all: tests that take something away from it come last, and give back what those after them need. */
  beforeAll(async () => {
    server = await startPostgres(bin!)
    issuer = await startTestIssuer()
    vault = await startVaultDouble()
    Object.assign(LIVES, { leaseTtl: vault.leaseTtl, leaseMaxTtl: vault.leaseMaxTtl })
    line = await startTcpProxy(server.port)
    database = await server.createDatabase()
    await makeRoles(server, database)
    letVaultMakeLogins(vault, server, database)
    const company = aCompany({
      issuer: issuer.url,
      notes: {
        login_session: true,
        downstreams: {
          orders: {},
          leased: {},
          mail: {},
          elsewhere: {},
          encrypted: {},
          far: {},
          inside: {},
          vaulted: {},
        },
      },
    })
    const postgres = { host: '127.0.0.1', port: server.port, database, tls: false }
    const orders = { credential: 'static', secret: 'orders-login' }
    daemon = await prepareDaemonHere(
      {
        ...company,
        'state/token': vault.rootToken,
        'servers/reports.yaml': {
          ...(company['servers/notes.yaml'] as object),
          server: 'reports',
          resource: 'https://reports.example/mcp',
          login_session: false,
          attest: [{ exec: { uid } }],
          tenants: ['acme'],
          service_downstreams: { orders: {} },
          exec: { on_behalf_of: 'server' },
        },
        'downstreams/orders.yaml': { downstream: 'orders', ...orders, postgres },
        'downstreams/far.yaml': { downstream: 'far', ...orders, postgres: { ...postgres, port: line.port } },
        'downstreams/vaulted.yaml': {
          downstream: 'vaulted',
          credential: 'static',
          backend: 'vault',
          secret: 'vaulted',
          postgres,
        },
        'downstreams/inside.yaml': {
          downstream: 'inside',
          ...orders,
          credential: 'basic',
          postgres: { ...postgres, only: true },
        },
        'downstreams/leased.yaml': {
          downstream: 'leased',
          credential: 'dynamic',
          backend: 'vault',
          role: 'reader',
          postgres,
        },
        'downstreams/elsewhere.yaml': { downstream: 'elsewhere', ...orders, postgres: { ...postgres, port: 1 } },
        'downstreams/encrypted.yaml': { downstream: 'encrypted', ...orders, postgres: { ...postgres, tls: true } },
        'policies/access/orders.cedar': '@id("orders")\npermit (principal, action, resource);',
        'policies/rotation/orders.yaml': rotationOf(server, database),
      },
      { listen: { postgres: 'run/pg' }, limits: { header_timeout: '1s' }, secrets: vaultSettings(vault) },
    )
    await signIn(daemon, { tenant: 'acme', user: 'alice', issuer: issuer.url })
    await daemon.start()
    await keepLogins(daemon.home, server)
    expect(
      (await runCli(daemon.home, ['secret', 'set', '--tenant', 'acme', '--name', 'mail-key'], 'no login')).code,
    ).toBe(0)
  })
  const LIVES = { leaseTtl: 0, leaseMaxTtl: 0 }
  const giveBackLives = (): void => {
    Object.assign(vault, LIVES)
  }
  const clients: Client[] = []
  afterEach(async () => {
    await Promise.all(clients.splice(0).map((client) => client.end().catch(() => undefined)))
  })
  afterAll(async () => {
    await daemon?.close()
    await vault?.close()
    await line?.close()
    await server?.close()
    await issuer?.close()
  })

  const folder = (): string => join(daemon.home, 'run/pg')
  /** What a connection was told at its end. */
  const endOf = new WeakMap<Client, Promise<string>>()
  const connected = async (downstream = 'orders', more: object = {}): Promise<Client> => {
    const client = new Client({ host: folder(), user: 'anybody', database: downstream, ...more })
    // From the beginning: on a busy machine it may be over before the test goes on.
    const ended = new Promise<string>((resolve) => {
      client.on('error', (error) => {
        resolve((error as DatabaseError).message)
      })
    })
    clients.push(client)
    await client.connect()
    endOf.set(client, ended)
    return client
  }
  const endLeases = async (): Promise<void> => {
    for (const { id } of JSON.parse((await daemon.deputy('lease', 'list', '--json')).out) as { id: string }[])
      expect((await daemon.deputy('lease', 'revoke', '--id', id)).code).toBe(0)
  }
  const whoIs = async (client: Client): Promise<string> =>
    String((await client.query<{ name: string }>('select current_user as name')).rows[0]!.name)
  const refusal = (downstream: string, more: object = {}): Promise<DatabaseError> =>
    connected(downstream, more).then(
      () => {
        throw new Error('it was let in')
      },
      (error: unknown) => error as DatabaseError,
    )
  const rotate = async (): Promise<void> => {
    expect((await daemon.deputy('rotation', 'run', '--tenant', 'acme', '--name', 'orders-login')).code).toBe(0)
  }
  const isRotated = (times: number) =>
    expect
      .poll(
        async () =>
          (JSON.parse((await daemon.deputy('rotation', 'history', '--json')).out) as { state: string }[]).map(
            ({ state }) => state,
          ),
        { interval: 100 },
      )
      .toEqual(Array.from({ length: times }, () => 'done'))

  it('promise 5: a client without a password is let in as what the kernel says of it, and never has the password', async () => {
    const client = await connected()
    expect(await whoIs(client)).toBe('app_a')
    expect((await client.query('select generate_series(1, 200000) as n')).rows).toHaveLength(200_000)
    await client.query('create temp table big (t text)')
    const large = 'x'.repeat(3_000_000)
    await client.query('insert into big values ($1)', [large])
    expect((await client.query<{ t: string }>('select t from big')).rows[0]!.t === large).toBe(true)
    const records = (await daemon.deputy('audit', 'query', '--event', 'connection.open', '--json')).out
    expect(JSON.parse(records)).toMatchObject([
      { user: 'alice', server: 'notes', downstream: 'orders', outcome: 'issued' },
    ])
    for (const text of [records, daemon.output()]) expect(text).not.toContain('the-first')
  })

  it('promise 5: a login that is for the socket alone is handed out to nobody', async () => {
    const asked = (audience: string) =>
      daemon.token({
        grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
        subject_token: 'current',
        subject_token_type: 'urn:deputy:params:oauth:token-type:login-session',
        audience,
      })
    expect(await asked('orders')).toMatchObject({ status: 200 })
    expect(await asked('inside')).toMatchObject({ status: 403, body: { reason: 'database_only' } })
    expect(await whoIs(await connected('inside'))).toBe('app_a')
  })

  it('fault 20: a login that the server does not take any more is dropped, and the one that is right now is used', async () => {
    const vaulted = { username: 'vaulted', password: 'one' }
    vault.put('deputy/acme/vaulted', { value: JSON.stringify(vaulted) })
    await asAdmin(server, database, "create role vaulted login password 'one'")
    expect(await whoIs(await connected('vaulted'))).toBe('vaulted')
    // Another party rotates it, and Deputy has a copy that is fresh for minutes.
    await asAdmin(server, database, "alter role vaulted password 'two'")
    vault.put('deputy/acme/vaulted', { value: JSON.stringify({ ...vaulted, password: 'two' }) })
    expect(await whoIs(await connected('vaulted'))).toBe('vaulted')
    // A login under a lease that the database has lost.
    const lost = await whoIs(await connected('leased'))
    onTestFinished(endLeases)
    await asAdmin(server, database, `drop role "${lost}"`)
    expect(await whoIs(await connected('leased'))).not.toBe(lost)
    // What is wrong for good is said, after attempts that end.
    await asAdmin(server, database, "alter role vaulted password 'three'")
    expect(await refusal('vaulted')).toMatchObject({ code: '08004' })
  })

  it('serves psql as it is, with what it asks for at its start', async () => {
    const { stdout } = await promisify(execFile)(
      join(bin!, 'psql'),
      [
        '-h',
        folder(),
        '-U',
        'x',
        '-d',
        'orders',
        '-Atc',
        "select current_user, current_setting('application_name'), current_setting('work_mem')",
      ],
      { env: { ...process.env, PGAPPNAME: 'mine', PGOPTIONS: '-c work_mem=3MB' } },
    )
    expect(stdout.trim()).toBe('app_a|mine|3MB')
  })

  it('cancels a query for the client that asks, and for nobody else', async () => {
    const client = await connected()
    const { processID, secretKey } = client as unknown as { processID: number; secretKey: number }
    const request = (process: number, key: number) =>
      new Promise<void>((resolve) => {
        const bytes = Buffer.alloc(16)
        for (const [at, value] of [16, 80_877_102, process, key].entries()) bytes.writeInt32BE(value, 4 * at)
        connect(join(folder(), '.s.PGSQL.5432'))
          .on('close', () => {
            resolve()
          })
          .on('error', () => undefined)
          .resume()
          .end(bytes)
      })
    const sleeping = client.query('select pg_sleep(20)').then(
      () => 'slept',
      (error: DatabaseError) => error.code,
    )
    await request(processID, secretKey ^ 1)
    await request(processID ^ 1, secretKey)
    expect(
      await Promise.race([
        sleeping,
        new Promise((resolve) => {
          setTimeout(resolve, 300, 'goes on')
        }),
      ]),
    ).toBe('goes on')
    await request(processID, secretKey)
    expect(await sleeping).toBe('57014')
    expect(await whoIs(client)).toBe('app_a')
  })

  it('keeps the lease of a login for as long as a connection uses it, and no longer', async () => {
    // Seconds: a loaded machine has to find time to renew it.
    vault.leaseTtl = 8
    onTestFinished(giveBackLives)
    const client = await connected('leased')
    const user = await whoIs(client)
    const ids = async () =>
      (JSON.parse((await daemon.deputy('lease', 'list', '--json')).out) as { id: string }[]).map(({ id }) => id)
    const before = await ids()
    // Longer than it was given for.
    for (const until = performance.now() + 10_000; performance.now() < until;) {
      expect(await ids()).toEqual(before)
      expect(await whoIs(client)).toBe(user)
      await sleep(250)
    }
    await client.end()
    await expect.poll(ids, { interval: 200 }).toEqual([])
  })

  it('promise 4: a connection does not outlive the longest life of its login', async () => {
    Object.assign(vault, { leaseTtl: 2, leaseMaxTtl: 3 })
    onTestFinished(giveBackLives)
    expect(await endOf.get(await connected('leased'))).toMatch(/lease .*, which has ended/)
  })

  it("promise 9: says in the protocol's own words what is in the way, and what to do", async () => {
    expect(await refusal('nowhere')).toMatchObject({
      severity: 'FATAL',
      code: '3D000',
      hint: expect.stringMatching(/Name one of the downstreams/) as string,
      detail: expect.stringMatching(/Correlation id \S+; deputy explain/) as string,
    })
    expect(await refusal('mail')).toMatchObject({
      code: '3D000',
      message: expect.stringMatching(/no postgres server in its file/) as string,
    })
    expect(await refusal('elsewhere')).toMatchObject({
      code: '08006',
      message: expect.stringMatching(/ECONNREFUSED/) as string,
    })
    const { detail } = await refusal('elsewhere')
    expect((await daemon.deputy('explain', /id (\S+);/.exec(detail!)![1]!)).out).toMatch(
      /notes asked; it proved who it is by unix[\s\S]*came to nothing[\s\S]*could not be reached: ECONNREFUSED/,
    )
    expect(await refusal('encrypted')).toMatchObject({
      code: '08006',
      message: expect.stringMatching(/does not speak TLS/) as string,
    })
    expect(await refusal('orders', { replication: 'database' })).toMatchObject({
      code: '08P01',
      message: expect.stringMatching(/replication/) as string,
    })
    const setLogin = async (password: string): Promise<void> => {
      const login = JSON.stringify({ username: 'app_a', password })
      const { code } = await runCli(daemon.home, ['secret', 'set', '--tenant', 'acme', '--name', 'orders-login'], login)
      expect(code).toBe(0)
    }
    await setLogin('wrong')
    expect(await refusal('orders')).toMatchObject({
      code: '08004',
      message: expect.stringMatching(/password authentication failed.*28P01/) as string,
    })
    await setLogin('the-first')
    const raw = async (bytes: Buffer): Promise<string> => {
      const socket = connect(join(folder(), '.s.PGSQL.5432'))
      let text = ''
      socket
        .on('data', (chunk: Buffer) => {
          text += chunk.toString('latin1')
        })
        .on('error', () => undefined)
      socket.write(bytes)
      await new Promise<void>((resolve) => {
        socket.once('close', () => {
          resolve()
        })
      })
      return text
    }
    expect(await raw(Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'))).toMatch(
      /^E[\s\S]*too short or too long/,
    )
    expect(await raw(Buffer.from([0, 0, 0, 8, 0, 2, 0, 0]))).toMatch(/^E[\s\S]*not version 3/)
    expect(await raw(Buffer.from([0, 0, 0, 8, 4, 0xd2, 22, 47, 0, 0, 0, 8, 4, 0xd2, 22, 48]).fill(0, 16))).toBe('NN')
    // Who says nothing, or half of it, is not waited for.
    for (const begun of [Buffer.alloc(0), Buffer.from([0, 0, 0, 40, 0, 3, 0, 0])]) expect(await raw(begun)).toBe('')
  })

  it('promises 5 and 7, threat 3: an unmodified Postgres MCP server works before, during and after a rotation, and the password is nowhere in its process', async () => {
    await asAdmin(
      server,
      database,
      'create table orders (id int, item text)',
      "insert into orders values (1, 'tea')",
      'grant select on orders to app_a, app_b',
    )
    const transport = new StdioClientTransport({
      command: process.execPath,
      args: [
        CLI,
        'exec',
        '--home',
        daemon.home,
        '--server',
        'reports',
        '--',
        process.execPath,
        SERVER_POSTGRES,
        `postgresql:///orders?host=${folder()}`,
      ],
      env: { PATH: process.env['PATH']!, USER: 'anybody' },
      stderr: 'pipe',
    })
    const client = new McpClient({ name: 'test', version: '1' })
    await client.connect(transport)
    const query = async (): Promise<string> => {
      const { content } = await client.callTool({
        name: 'query',
        arguments: { sql: 'select item, current_user::text as who from orders' },
      })
      return (content as { text: string }[])[0]!.text
    }
    try {
      expect(JSON.parse(await query())).toEqual([{ item: 'tea', who: 'app_a' }])
      let running = true
      const seen = new Set<string>()
      const asking = (async () => {
        let count = 0
        while (running) {
          seen.add((JSON.parse(await query()) as { who: string }[])[0]!.who)
          count += 1
          await sleep(10)
        }
        return count
      })()
      await rotate()
      await isRotated(1)
      running = false
      expect(await asking).toBeGreaterThan(5)
      expect(JSON.parse(await query())).toMatchObject([{ item: 'tea' }])
      const { stdout } = await promisify(execFile)('ps', ['-o', 'pid=', '--ppid', String(transport.pid)])
      const pid = stdout.trim()
      expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).toContain('server-postgres')
      for (const place of ['environ', 'cmdline'])
        expect(readFileSync(`/proc/${pid}/${place}`, 'utf8')).not.toMatch(/the-first|dxs_|DEPUTY/)
      const memory = readMemory(Number(pid))
      expect([memory.includes('postgresql:///orders'), memory.includes('the-first')]).toEqual([true, false])
    } finally {
      await client.close()
      await asAdmin(server, database, 'drop table orders')
    }
  })

  it('promise 7: connections go on through a rotation, new ones use the new login, and none holds the old one up', async () => {
    const before = await connected()
    expect(await whoIs(before)).toBe('app_b')
    await rotate()
    await isRotated(2)
    expect([await whoIs(before), await whoIs(await connected())]).toEqual(['app_b', 'app_a'])
  })

  it('tells clients that do nothing that the daemon stops, and does not wait for them', async () => {
    const [idle, listening] = [await connected(), await connected()]
    // What the server sends unasked begins nothing.
    await listening.query('listen news')
    const notified = once(listening, 'notification')
    await asAdmin(server, database, "notify news, 'one'")
    await notified
    const told = [idle, listening].map(
      (client) =>
        new Promise<DatabaseError>((resolve) => {
          client.once('error', (error) => {
            resolve(error as DatabaseError)
          })
        }),
    )
    const began = performance.now()
    await daemon.stop()
    expect(performance.now() - began).toBeLessThan(5000)
    for (const error of await Promise.all(told))
      expect(error).toMatchObject({ code: '57P01', message: expect.stringMatching(/shutting down/) as string })
  })

  it('promise 4: a connection does not outlive the session of the user for whom it is', async () => {
    // A machine that is so busy that the session ends before the connection is there gets a longer one.
    const connectedWithin = async (lifetime: number): Promise<Client> => {
      await daemon.stop()
      await signIn(daemon, { tenant: 'acme', user: 'carol', issuer: issuer.url, lifetime })
      await daemon.start()
      return connected().catch((error: unknown) => {
        if (lifetime > 60_000) throw error
        return connectedWithin(lifetime * 3)
      })
    }
    expect(await endOf.get(await connectedWithin(3000))).toMatch(/expired at/)
    expect(await refusal('orders')).toMatchObject({
      code: '28000',
      message: expect.stringMatching(/no session/) as string,
    })
    await daemon.stop()
    await signIn(daemon, { tenant: 'acme', user: 'alice', issuer: issuer.url })
    await daemon.start()
  })

  it('promise 4: a server that is retired, and a login whose lease ends, lose their connections', async () => {
    const leased = await connected('leased')
    const user = await whoIs(leased)
    const gone = (client: Client) =>
      new Promise<void>((resolve) => {
        client.once('error', () => {
          resolve()
        })
        client.once('end', () => {
          resolve()
        })
      })
    const lost = gone(leased)
    const [{ id }] = JSON.parse((await daemon.deputy('lease', 'list', '--json')).out) as [{ id: string }]
    expect((await daemon.deputy('lease', 'revoke', '--id', id)).code).toBe(0)
    await lost
    expect(await whoIs(await connected('leased'))).not.toBe(user)

    const client = await connected()
    const retired = gone(client)
    expect((await daemon.deputy('server', 'retire', 'notes')).code).toBe(0)
    await retired
    expect(await refusal('orders')).toMatchObject({
      code: '28000',
      message: expect.stringMatching(/retired/) as string,
    })
    expect((await daemon.deputy('server', 'approve', 'notes')).code).toBe(0)
    expect((await daemon.deputy('reload')).code).toBe(0)
  })

  it('promise 4: a revocation ends connections within a second, and what the server does for them; a client that does nothing is told why', async () => {
    const [busy, idle, far] = [await connected(), await connected(), await connected('far')]
    const told = new Promise<DatabaseError>((resolve) => {
      idle.once('error', (error) => {
        resolve(error as DatabaseError)
      })
    })
    const sleeping = busy.query('select pg_sleep(30)').then(
      () => 'slept',
      () => 'ended',
    )
    // A query that is on its way to the server, and that a request to cancel it overtakes.
    line.delay(600)
    const onItsWay = far.query('select pg_sleep(30)').catch(() => 'ended')
    await sleep(100)
    line.heal()
    expect((await daemon.deputy('revoke', '--tenant', 'acme', '--user', 'alice')).code).toBe(0)
    const began = performance.now()
    expect([await sleeping, await onItsWay]).toEqual(['ended', 'ended'])
    expect(await told).toMatchObject({
      code: '57P01',
      message: expect.stringMatching(/A revocation \(user alice of acme\)/) as string,
    })
    // A second, and what a busy machine takes to tell this test.
    expect(performance.now() - began).toBeLessThan(5000)
    await sleep(800)
    await expect
      .poll(
        async () => {
          const client = new Client({
            host: '127.0.0.1',
            port: server.port,
            user: 'deputy',
            password: server.password,
            database,
          })
          await client.connect()
          try {
            return (
              await client.query(
                "select 1 from pg_stat_activity where query like '%pg_sleep(30)%' and state = 'active' and usename = 'app_a'",
              )
            ).rowCount
          } finally {
            await client.end()
          }
        },
        { timeout: 15_000 },
      )
      .toBe(0)
    expect(await refusal('orders')).toMatchObject({ code: '28000' })
  })

  it("lets only the kernel's word count: a process of another user is refused", async ({ skip }) => {
    if (uid !== 0) skip('only root can start processes of another user')
    await promisify(execFile)('chmod', ['-R', 'a+rwX', daemon.home])
    const child = spawn(join(bin!, 'psql'), ['-h', folder(), '-U', 'x', '-d', 'orders', '-Atc', 'select 1'], {
      uid: 65_534,
      gid: 65_534,
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let err = ''
    child.stderr.on('data', (chunk: Buffer) => {
      err += chunk.toString('utf8')
    })
    expect(
      await new Promise((resolve) => {
        child.once('close', resolve)
      }),
    ).toBe(2)
    expect(err).toMatch(/No approved MCP server matches this caller[\s\S]*HINT/)
  })
})

/** What a process has in its memory that it may write to, as text. */
const readMemory = (pid: number): string => {
  const { closeSync, openSync, readSync } = process.getBuiltinModule('node:fs')
  const memory = openSync(`/proc/${pid}/mem`, 'r')
  try {
    return readFileSync(`/proc/${pid}/maps`, 'utf8')
      .split('\n')
      .flatMap((line) => {
        const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? []
        if (from === undefined || to === undefined) return []
        const buffer = Buffer.alloc(Math.min(64 * 1_048_576, Number(BigInt(`0x${to}`) - BigInt(`0x${from}`))))
        try {
          return [
            buffer.subarray(0, readSync(memory, buffer, 0, buffer.length, BigInt(`0x${from}`))).toString('latin1'),
          ]
        } catch {
          return []
        }
      })
      .join('')
  } finally {
    closeSync(memory)
  }
}
