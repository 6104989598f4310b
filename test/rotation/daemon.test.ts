import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { FORWARD_POINTS } from '../../src/flows/rotation/acts.ts'
import { signatureOf } from '../../src/flows/rotation/signature.ts'
import { findPostgres, startPostgres, type PostgresServer } from '../peers/postgres.ts'
import { logsIn } from '../support/postgres-logins.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  prepareDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type DaemonHere,
  type TestIssuer,
} from '../support/daemon.ts'
import { runCli, startProcess, testProgram } from '../support/process.ts'

/** Every point is killed at in crash.test.ts and in the model; here one shows that a real process goes on. All: ROTATION_POINTS=all npm test -- test/rotation/daemon.test.ts */
const POINTS = process.env['ROTATION_POINTS'] === 'all' ? FORWARD_POINTS : (['after promoting'] as const)
const FAULTY = testProgram('faulty-daemon')

/** Receives what is told of rotations. */
const startHook = async () => {
  const received: { body: string; signature: string }[] = []
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => {
      body += chunk.toString('utf8')
    })
    request.on('end', () => {
      received.push({ body, signature: String(request.headers['deputy-signature']) })
      response.writeHead(204).end()
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/rotations`,
    received,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => {
          resolve()
        })
        server.closeAllConnections()
      }),
  }
}

const bin = findPostgres()
describe.skipIf(bin === undefined)('a daemon that rotates the roles of a real Postgres', () => {
  let server: PostgresServer
  let issuer: TestIssuer
  let daemon: DaemonHere
  let database: string
  let hook: Awaited<ReturnType<typeof startHook>>
  beforeAll(async () => {
    server = await startPostgres(bin!)
    issuer = await startTestIssuer()
  })
  afterAll(async () => {
    await server?.close()
    await issuer?.close()
  })

  beforeEach(async () => {
    hook = await startHook()
    database = await server.createDatabase()
    await asAdmin(
      'drop role if exists app_a',
      'drop role if exists app_b',
      "create role app_a login password 'the-first'",
      'create role app_b login',
    )
    daemon = await prepareDaemonHere({
      ...aCompany({ issuer: issuer.url }),
      'policies/rotation/mail.yaml': {
        rotation: 'mail',
        owner: 'data@example.com',
        secrets: { tenants: ['acme'], name: 'mail-*' },
        when: { every: '30d', max_age: '90d', on: ['leak', 'revocation'] },
        grace: '300ms',
        notify: [{ webhook: hook.url, secret: { secret: 'hook-key' } }],
        how: {
          rotator: 'postgres',
          host: '127.0.0.1',
          port: server.port,
          database,
          tls: false,
          strategy: 'alternating',
          roles: ['app_a', 'app_b'],
          admin: { secret: 'postgres-admin' },
        },
      },
    })
  })
  afterEach(async () => {
    await daemon?.close()
    await hook?.close()
  })

  /** Starts it, or one that dies at a point of a rotation, and keeps the secrets. */
  const start = async (point?: string): Promise<{ readonly died: Promise<unknown> }> => {
    let died: Promise<unknown> = Promise.resolve()
    if (point === undefined) await daemon.start()
    else died = once(await startProcess([FAULTY, daemon.home, point], /deputy is ready/), 'exit')
    const set = (name: string, value: object) =>
      runCli(daemon.home, ['secret', 'set', '--tenant', 'acme', '--name', name], JSON.stringify(value))
    expect((await set('mail-key', { username: 'app_a', password: 'the-first' })).code).toBe(0)
    expect(
      (await runCli(daemon.home, ['secret', 'set', '--tenant', 'acme', '--name', 'hook-key'], 'hook-secret')).code,
    ).toBe(0)
    expect((await set('postgres-admin', { username: 'deputy', password: server.password })).code).toBe(0)
    return { died }
  }
  const asAdmin = async (...statements: string[]): Promise<void> => {
    const client = new Client({
      host: '127.0.0.1',
      port: server.port,
      user: 'deputy',
      password: server.password,
      database,
    })
    await client.connect()
    for (const statement of statements) await client.query(statement)
    await client.end()
  }
  const handedOut = async (): Promise<{ username: string; password: string } | undefined> => {
    const answer = await daemon
      .token({
        grant_type: TOKEN_EXCHANGE,
        subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme' }),
        subject_token_type: ACCESS_TOKEN,
        audience: 'mail',
      })
      .catch(() => undefined)
    return answer?.status === 200
      ? (JSON.parse(String(answer.body['access_token'])) as { username: string; password: string })
      : undefined
  }
  const login = (given: { username: string; password: string }): Promise<boolean> => logsIn(server, database, given)
  /** Logs in all the while with what was handed out that very moment. */
  const watch = () => {
    const seen = { logins: 0, lockedOut: [] as string[] }
    let running = true
    const work = (async () => {
      while (running) {
        const given = await handedOut()
        if (given === undefined) {
          await sleep(20)
          continue
        }
        seen.logins += 1
        if (!(await login(given))) seen.lockedOut.push(given.username)
        // Each login starts a process of Postgres: some in every step of a rotation are enough.
        await sleep(20)
      }
    })()
    return async () => {
      running = false
      await work
      return seen
    }
  }
  const isDone = async (): Promise<void> => {
    await expect
      .poll(
        async () =>
          (JSON.parse((await daemon.deputy('rotation', 'history', '--json')).out) as { state: string }[]).map(
            ({ state }) => state,
          ),
        { interval: 100 },
      )
      .toEqual(['done'])
  }

  it('promise 7: rotates on a command while everybody can log in, and the old one works no more', async () => {
    await start()
    const stop = watch()
    const before = await handedOut()
    const run = await daemon.deputy('rotation', 'run', '--tenant', 'acme', '--name', 'mail-key', '--reason', 'leak')
    expect([run.code, run.out]).toEqual([0, expect.stringContaining('has begun') as string])
    await isDone()
    const after = await handedOut()
    expect([before!.username, after!.username]).toEqual(['app_a', 'app_b'])
    expect([await login(before!), await login(after!)]).toEqual([false, true])
    const { logins, lockedOut } = await stop()
    expect(logins).toBeGreaterThan(10)
    expect(lockedOut).toEqual([])
    const records = (await daemon.deputy('audit', 'query', '--event', 'secret.rotate')).out
    expect(records).toContain('done')
    for (const text of [records, daemon.output()])
      for (const secret of [after!.password, before!.password, server.password]) expect(text).not.toContain(secret)
  })

  for (const point of POINTS) {
    it(`promise 7, threat 28: killed ${point}, it goes on after the restart, and everybody can log in at every moment`, async () => {
      const { died } = await start(point)
      const stop = watch()
      await daemon.deputy('rotation', 'run', '--tenant', 'acme', '--name', 'mail-key')
      await died
      await daemon.start()
      await expect
        .poll(
          async () =>
            (JSON.parse((await daemon.deputy('rotation', 'history', '--json')).out) as { state: string }[])[0]?.state,
          { interval: 200 },
        )
        .toBe('done')
      const { lockedOut } = await stop()
      expect(lockedOut).toEqual([])
      expect([
        (await handedOut())!.username,
        await login({ username: 'app_a', password: 'the-first' }),
        await login((await handedOut())!),
      ]).toEqual(['app_b', false, true])
    })
  }

  it('promise 7: the grace is over when everybody who had the old one has fetched the new one, and the status says who has not', async () => {
    await start()
    const policy = parse(await readFile(join(daemon.home, 'policies/rotation/mail.yaml'), 'utf8')) as object
    await daemon.write({ 'policies/rotation/mail.yaml': { ...policy, grace: '60s' } })
    expect((await daemon.deputy('reload')).code).toBe(0)
    const before = await handedOut()
    expect((await daemon.deputy('rotation', 'run', '--tenant', 'acme', '--name', 'mail-key')).code).toBe(0)
    const status = async () =>
      JSON.parse((await daemon.deputy('rotation', 'status', '--json')).out) as {
        open: { state: string }[]
        holders: { server: string; secret: string }[]
      }
    await expect.poll(async () => (await status()).open.map(({ state }) => state)).toEqual(['grace'])
    // Longer than it takes to look.
    await new Promise((resolve) => {
      setTimeout(resolve, 3000)
    })
    expect(await status()).toMatchObject({
      open: [{ state: 'grace' }],
      holders: [{ server: 'notes', secret: 'mail-key' }],
    })
    expect((await daemon.deputy('rotation', 'status')).out).toMatch(
      /Servers that still use the previous version:[\s\S]*mail-key[\s\S]*notes/,
    )
    expect(await login(before!)).toBe(true)
    const after = await handedOut()
    expect(after!.username).not.toBe(before!.username)
    await isDone()
    expect([await login(before!), await login(after!)]).toEqual([false, true])
    expect((await status()).holders).toEqual([])
  })

  it('begins on a leak report and on a revocation where the policy says so, and tells who wants to know, signed', async () => {
    await start()
    expect((await daemon.deputy('rotation', 'event', 'owner_left', '--owner', 'data@example.com')).out).toContain(
      'No policy',
    )
    expect((await daemon.deputy('rotation', 'event', 'leak', '--tenant', 'globex')).out).toContain('No policy')
    expect((await daemon.deputy('rotation', 'event', 'leak')).code).toBe(1)
    expect((await daemon.deputy('rotation', 'event', 'leak', '--tenant', 'acme')).out).toContain(
      'acme/mail-key has begun',
    )
    await isDone()
    await expect.poll(() => hook.received.length).toBe(1)
    const { body, signature } = hook.received[0]!
    expect(JSON.parse(body)).toMatchObject({
      event: 'rotation',
      tenant: 'acme',
      secret: 'mail-key',
      state: 'done',
      reason: 'leak',
      owner: 'data@example.com',
    })
    const [, seconds] = /^t=(\d+),v1=[0-9a-f]{64}$/.exec(signature)!
    expect(signature).toBe(signatureOf('hook-secret', Number(seconds), body))
    expect(body).not.toContain((await handedOut())!.password)
    expect((await daemon.deputy('revoke', '--tenant', 'globex', '--user', 'gustav', '--force')).code).toBe(0)
    expect((await daemon.deputy('revoke', '--tenant', 'acme', '--user', 'mallory', '--force')).code).toBe(0)
    await expect
      .poll(
        async () =>
          (
            JSON.parse((await daemon.deputy('rotation', 'history', '--json')).out) as {
              reason: string
              state: string
            }[]
          ).map(({ reason, state }) => `${reason.split(' ')[0]} ${state}`),
        { interval: 200 },
      )
      .toEqual(['revocation done', 'leak done'])
  })

  it('plans, reports, pauses and resumes by commands', async () => {
    await start()
    const plan = await daemon.deputy('rotation', 'plan', '--days', '60')
    expect(plan.out).toMatch(/^\d{4}-\d\d-\d\d\n {2}\d\d:\d\d UTC {2}acme\/mail-key \(mail\)/)
    expect((await daemon.deputy('rotation', 'status')).out).toContain('mail-key')
    expect((await daemon.deputy('rotation', 'report')).out).toContain('data@example.com')
    expect(
      (await daemon.deputy('rotation', 'pause', '--tenant', 'acme', '--name', 'mail-key', '--reason', 'migration'))
        .code,
    ).toBe(0)
    expect((await daemon.deputy('rotation', 'plan', '--days', '60')).out).toContain('paused: migration')
    expect((await daemon.deputy('rotation', 'resume', '--tenant', 'acme', '--name', 'mail-key')).code).toBe(0)
    expect((await daemon.deputy('rotation', 'run', '--tenant', 'acme', '--name', 'other')).err).toContain(
      'no rotation policy covers',
    )
    expect((await daemon.deputy('rotation', 'rollback', '--tenant', 'acme', '--name', 'mail-key')).err).toContain(
      'under way',
    )
    expect((await daemon.deputy('rotation', 'check')).out).toContain('1 rotation policy in order: mail')
  })
})
