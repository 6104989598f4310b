import { connect } from 'node:net'
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { askRedis, findRedis, startRedis, type RedisServer } from '../peers/redis.ts'
import { aCompany } from '../support/configuration.ts'
import { prepareDaemonHere, startTestIssuer, type RunningDaemon, type TestIssuer } from '../support/daemon.ts'
import { signIn } from '../support/exec.ts'
import { runCli } from '../support/process.ts'

describe.skipIf(!findRedis())('Redis through Deputy', () => {
  let server: RedisServer
  let issuer: TestIssuer
  let daemon: RunningDaemon
  const clients: Redis[] = []

  beforeAll(async () => {
    server = await startRedis(['save ""'])
    issuer = await startTestIssuer()
    await askRedis(server.port, async (client) => {
      await client.call('ACL', 'SETUSER', 'admin', 'on', '>admin-password', '~*', '+@all')
      for (const [name, password] of [
        ['app_a', 'the-first'],
        ['app_b', 'unused'],
      ] as const)
        await client.call('ACL', 'SETUSER', name, 'on', `>${password}`, '~app:*', '&*', '+@all', '-@admin')
    })
    daemon = await prepareDaemonHere(
      {
        ...aCompany({
          issuer: issuer.url,
          notes: {
            login_session: true,
            downstreams: { sessions: {}, basic: {}, broken: {}, elsewhere: {}, closed: {} },
          },
        }),
        'downstreams/sessions.yaml': {
          downstream: 'sessions',
          credential: 'static',
          secret: 'redis-login',
          redis: { host: '127.0.0.1', port: server.port, tls: false },
        },
        'downstreams/basic.yaml': {
          downstream: 'basic',
          credential: 'basic',
          secret: 'redis-login',
          redis: { host: '127.0.0.1', port: server.port, tls: false },
        },
        'downstreams/broken.yaml': {
          downstream: 'broken',
          credential: 'basic',
          secret: 'redis-word',
          redis: { host: '127.0.0.1', port: server.port, tls: false },
        },
        'downstreams/elsewhere.yaml': {
          downstream: 'elsewhere',
          credential: 'static',
          secret: 'redis-login',
          redis: { host: '127.0.0.1', port: 1, tls: false },
        },
        'downstreams/closed.yaml': {
          downstream: 'closed',
          credential: 'static',
          secret: 'redis-login',
          redis: { host: '127.0.0.1', port: server.port, tls: false },
        },
        'policies/access/sessions.cedar':
          '@id("sessions")\npermit (principal is Deputy::User, action, resource) unless { resource == Deputy::Downstream::"closed" };',
        'policies/rotation/sessions.yaml': {
          rotation: 'sessions',
          owner: 'data@example.com',
          secrets: { tenants: ['acme'], name: 'redis-login' },
          when: { every: '30d' },
          grace: '60s',
          how: {
            rotator: 'redis',
            host: '127.0.0.1',
            port: server.port,
            tls: false,
            user: 'app_a',
            admin: { secret: 'redis-admin' },
          },
        },
      },
      { listen: { redis: 'run/redis' } },
    )
    await signIn(daemon, { tenant: 'acme', user: 'alice', issuer: issuer.url })
    await daemon.start()
    for (const [name, value] of [
      ['redis-login', { username: 'app_a', password: 'the-first' }],
      ['redis-admin', { username: 'admin', password: 'admin-password' }],
      ['redis-word', 'the-first'],
    ] as const) {
      expect(
        (await runCli(daemon.home, ['secret', 'set', '--tenant', 'acme', '--name', name], JSON.stringify(value))).code,
      ).toBe(0)
    }
  })
  afterEach(() => {
    for (const client of clients.splice(0)) client.disconnect()
  })
  afterAll(async () => {
    await daemon?.close()
    await server?.close()
    await issuer?.close()
  })

  const path = (downstream: string): string => join(daemon.home, 'run/redis', `${downstream}.sock`)
  const connected = async (downstream = 'sessions', more: object = {}): Promise<Redis> => {
    const client = new Redis({
      path: path(downstream),
      lazyConnect: true,
      retryStrategy: () => null,
      maxRetriesPerRequest: 0,
      ...more,
    })
    client.on('error', () => undefined)
    clients.push(client)
    await client.connect()
    return client
  }
  /** What is answered to a first command. */
  const said = async (downstream: string): Promise<string> => {
    const socket = connect(path(downstream))
    let text = ''
    socket
      .on('data', (chunk: Buffer) => {
        text += chunk.toString('utf8')
      })
      .on('error', () => undefined)
    socket.write('PING\r\n')
    await new Promise<void>((resolve) => {
      socket.once('close', () => {
        resolve()
      })
    })
    return text
  }

  it('promise 5: a client without a password is let in, at the database that it wants, under the name that it has', async () => {
    const client = await connected('sessions', { db: 3, connectionName: 'mine' })
    expect(await client.call('ACL', 'WHOAMI')).toBe('app_a')
    expect(String(await client.call('CLIENT', 'INFO'))).toMatch(/name=mine .*db=3 /)
    const large = 'x'.repeat(5_000_000)
    await client.set('app:large', large)
    expect((await client.get('app:large')) === large).toBe(true)
    await expect(client.set('other', '1')).rejects.toThrow('NOPERM')
    const modern = await connected()
    expect(JSON.stringify(await modern.call('HELLO', '3'))).toContain('"proto",3')
    expect(statSync(path('sessions')).mode & 0o777).toBe(0o600)
    for (const text of [daemon.output(), (await daemon.deputy('audit', 'export')).out])
      expect(text).not.toContain('the-first')
  })

  it('a secret that has to be a login is one here too', async () => {
    expect(await (await connected('basic')).call('ACL', 'WHOAMI')).toBe('app_a')
    expect(await said('broken')).toMatch(/^-ERR Deputy: [^\r]*no login, JSON with username/)
  })

  it('promise 7: connections go on through a rotation, and new ones use the new password', async () => {
    const before = await connected()
    expect((await daemon.deputy('rotation', 'run', '--tenant', 'acme', '--name', 'redis-login')).code).toBe(0)
    await expect
      .poll(
        async () =>
          (JSON.parse((await daemon.deputy('rotation', 'history', '--json')).out) as { state: string }[]).map(
            ({ state }) => state,
          ),
        { interval: 100 },
      )
      .toEqual(['done'])
    expect(await (await connected()).ping()).toBe('PONG')
    await expect(askRedis(server.port, (client) => client.call('AUTH', 'app_a', 'the-first'))).rejects.toThrow(
      'WRONGPASS',
    )
    expect(await before.ping()).toBe('PONG')
  })

  it('promise 9: says what is in the way as the answer to the first command', async () => {
    expect(await said('closed')).toMatch(
      /^-NOPERM Deputy: Policy does not let notes act on closed[^\r]*Next: [^\r]*\r\n$/,
    )
    expect(await said('elsewhere')).toMatch(
      /^-ERR Deputy: The redis server of elsewhere could not be reached: ECONNREFUSED/,
    )
  })

  it('opens and closes sockets as the files say', async () => {
    expect(existsSync(path('mail'))).toBe(false)
    const client = await connected()
    const ended = new Promise((resolve) => {
      client.once('end', resolve)
    })
    await daemon.write({
      'downstreams/sessions.yaml': { downstream: 'sessions', credential: 'static', secret: 'redis-login' },
      'downstreams/mail.yaml': {
        downstream: 'mail',
        credential: 'static',
        secret: 'redis-login',
        redis: { host: '127.0.0.1', port: server.port, tls: false },
      },
    })
    expect((await daemon.deputy('reload')).code).toBe(0)
    await ended
    expect([existsSync(path('sessions')), existsSync(path('mail'))]).toEqual([false, true])
    await daemon.write({
      'downstreams/sessions.yaml': {
        downstream: 'sessions',
        credential: 'static',
        secret: 'redis-login',
        redis: { host: '127.0.0.1', port: server.port, tls: false },
      },
    })
    expect((await daemon.deputy('reload')).code).toBe(0)
    expect(await (await connected()).ping()).toBe('PONG')
  })

  it('promise 4: a revocation of the server ends connections, and lets no more in', async () => {
    const client = await connected()
    const ended = new Promise((resolve) => {
      client.once('end', resolve)
    })
    expect((await daemon.deputy('revoke', '--server', 'notes', '--tenant', 'acme')).code).toBe(0)
    const began = performance.now()
    await ended
    expect(performance.now() - began).toBeLessThan(1000)
    expect(await said('sessions')).toMatch(/^-NOAUTH Deputy: A revocation /)
  })
})
