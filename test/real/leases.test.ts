import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { DEPUTY_POLICY, findOpenBao, startOpenBao, type OpenBao } from '../peers/openbao.ts'
import { findPostgres, startPostgres, type PostgresServer } from '../peers/postgres.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  startDaemonProcess,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type Daemon,
  type TestIssuer,
} from '../support/daemon.ts'
import { asAdmin, logsIn, type Login } from '../support/postgres-logins.ts'

/** How many exchanges the long case does: 10000 before a release. */
const EXCHANGES = Number(process.env['DEPUTY_REAL_EXCHANGES'] ?? 1500)
const AT_ONCE = 12
const USERS = 60
/** A caller counts `expires_in` from when it has read the answer, which may be so much later (ms). */
const FLIGHT_MS = 200

const bao = findOpenBao()
const bin = findPostgres()
describe.skipIf(bao === undefined || bin === undefined)('leases of a real OpenBao on a real Postgres', () => {
  let server: PostgresServer
  let issuer: TestIssuer
  let vault: OpenBao
  let daemon: Daemon
  let database: string
  beforeAll(async () => {
    server = await startPostgres(bin!)
    issuer = await startTestIssuer()
  })
  afterAll(async () => {
    await server?.close()
    await issuer?.close()
  })
  beforeEach(async () => {
    vault = await startOpenBao(bao!)
    database = await server.createDatabase()
    await vault.database(server, database)
  })
  afterEach(async () => {
    await daemon?.close()
    await vault?.close()
  })

  const role = (lease: { default_ttl: string; max_ttl: string }, statements: readonly string[] = []) =>
    vault.must('POST', 'database/roles/reader', {
      db_name: 'orders',
      creation_statements: [
        `CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'`,
        ...statements,
      ],
      ...lease,
    })
  const start = async (token: object, backend: object = {}): Promise<void> => {
    const { roleId, secretId } = await vault.approle(token, DEPUTY_POLICY)
    const company = aCompany({ issuer: issuer.url, notes: { downstreams: { orders: { scopes: [] }, mail: {} } } })
    daemon = await startDaemonProcess(
      {
        ...company,
        'state/secret-id': secretId,
        'downstreams/orders.yaml': { downstream: 'orders', credential: 'dynamic', backend: 'vault', role: 'reader' },
        'downstreams/mail.yaml': { ...(company['downstreams/mail.yaml'] as object), backend: 'vault' },
        'policies/access/orders.cedar':
          '@id("orders")\npermit (principal, action == Deputy::Action::"dynamic", resource);',
      },
      {
        log: { level: 'debug' },
        secrets: {
          backends: {
            vault: {
              kind: 'vault',
              address: vault.url,
              path: 'denied/{tenant}/{secret}',
              login: { approle: { role: 'deputy', role_id: roleId, secret_id: { file: 'state/secret-id' } } },
              ...backend,
            },
          },
        },
      },
    )
  }
  const works = (login: Login): Promise<boolean> => logsIn(server, database, login)
  const exchange = async (sub: string, audience = 'orders') =>
    daemon.token({
      grant_type: TOKEN_EXCHANGE,
      subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub }),
      subject_token_type: ACCESS_TOKEN,
      audience,
    })
  const loginOf = async (sub: string): Promise<Login> => {
    const { status, body } = await exchange(sub)
    if (status !== 200) throw new Error(JSON.stringify(body))
    return JSON.parse(String(body['access_token'])) as Login
  }
  /** What no caller asks for again may end. */
  const inUse = async (ms: number, sub: string): Promise<void> => {
    for (const until = performance.now() + ms; performance.now() < until; await sleep(500)) await exchange(sub)
  }
  const roles = async (): Promise<number> => {
    const [row] = await asAdmin(
      server,
      database,
      `select count(*)::int as n from pg_roles where rolname like 'v-approle-%'`,
    )
    return (row as { n: number }).n
  }
  const tokens = async (): Promise<string[]> => {
    const { data } = (await vault.must('LIST', 'auth/token/accessors')) as { data: { keys: string[] } }
    return data.keys
  }

  it(
    `fault 42: none of ${EXCHANGES} logins is dead, or dies before its time, over restarts, a token's longest life and denied paths`,
    async () => {
      await role({ default_ttl: '9s', max_ttl: '25s' })
      await start({ token_ttl: '6s', token_max_ttl: '14s' })
      const problems: string[] = []
      const dead: string[] = []
      const checks: Promise<void>[] = []
      const seen = new Set<string>()
      let [given, isDown, restarts, denied] = [0, false, 0, 0]
      const one = async (index: number): Promise<void> => {
        while (isDown) await sleep(20)
        const answer = await exchange(`user-${index % USERS}`).catch(() => undefined)
        // The daemon was stopped meanwhile.
        if (answer === undefined) return
        if (answer.status !== 200) {
          if (answer.body['reason'] !== 'draining') problems.push(JSON.stringify(answer.body))
          return
        }
        given += 1
        const login = JSON.parse(String(answer.body['access_token'])) as Login
        const expires = Number(answer.body['expires_in'])
        seen.add(login.username)
        const until = performance.now() + expires * 1000 - FLIGHT_MS
        if (!(await works(login))) dead.push(`${login.username}: at once, expires_in ${expires}`)
        checks.push(
          (async () => {
            await sleep(Math.max(0, until - performance.now()))
            if (performance.now() <= until + FLIGHT_MS / 2 && !(await works(login)))
              dead.push(`${login.username}: before its end, expires_in ${expires}`)
          })(),
        )
      }
      const restart = async (): Promise<void> => {
        isDown = true
        await daemon.stop(restarts % 2 === 0 ? 'SIGTERM' : 'SIGKILL')
        await daemon.start()
        restarts += 1
        isDown = false
      }
      let next = 0
      const workers = Array.from({ length: AT_ONCE }, async () => {
        while (next < EXCHANGES) {
          const index = (next += 1)
          if (index % 300 === 0) await restart()
          if (index % 25 === 0) {
            const refused = await exchange('alice', 'mail').catch(() => undefined)
            if (refused?.body['reason'] === 'secret_backend_refused') denied += 1
          }
          await one(index)
          // So that tokens and leases come to their ends meanwhile.
          await sleep(150)
        }
      })
      await Promise.all(workers)
      await Promise.all(checks)
      process.stdout.write(
        `${given} exchanges, ${seen.size} logins, ${restarts} restarts, ${denied} denied paths, ${dead.length} dead, ${problems.length} refused ${problems.join(' ')}\n`,
      )
      expect(dead).toEqual([])
      // A kill in the middle of the making leaves a note that others wait for: a retryable answer, and no dead login.
      expect(problems.filter((each) => !each.includes('still being made'))).toEqual([])
      expect(given).toBeGreaterThan(EXCHANGES * 0.8)
      // Each restart and each check waits for real time.
    },
    300_000 + EXCHANGES * 150,
  )

  it('fault 42, fault 58: a restart keeps the logins and their token; the token ends once nothing is under it', async () => {
    await role({ default_ttl: '1h', max_ttl: '4h' })
    await start({ token_ttl: '20s', token_max_ttl: '1h' })
    const before = await tokens()
    const alice = await loginOf('alice')
    const [mine] = (await tokens()).filter((each) => !before.includes(each))
    await daemon.stop()
    expect(await works(alice)).toBe(true)
    await daemon.start()
    expect(await loginOf('alice')).toEqual(alice)
    // Longer than its token was given for: without a renewal the login would be gone.
    await inUse(22_000, 'alice')
    expect([await works(alice), (await loginOf('alice')).username]).toEqual([true, alice.username])
    expect(await tokens()).toContain(mine)
    await daemon.deputy('revoke', '--tenant', 'acme', '--user', 'alice')
    expect(await works(alice)).toBe(false)
    await expect.poll(tokens, { timeout: 40_000, interval: 500 }).not.toContain(mine)
    await daemon.stop()
    // What no lease is under is ended with the process.
    expect(await tokens()).toEqual(before)
  })

  it('fault 42: a token that an admin has ended costs its logins, and none of them is handed out again', async () => {
    await role({ default_ttl: '1h', max_ttl: '4h' })
    await start({ token_ttl: '20s', token_max_ttl: '1h' })
    const before = await tokens()
    const alice = await loginOf('alice')
    const [mine] = (await tokens()).filter((each) => !before.includes(each))
    await vault.must('POST', 'auth/token/revoke-accessor', { accessor: mine! })
    await expect.poll(() => works(alice)).toBe(false)
    // Anything that it asks Vault tells.
    await sleep(1100)
    await loginOf('bob')
    const next = await loginOf('alice')
    expect([next.username === alice.username, await works(next)]).toEqual([false, true])
  })

  it('fault 44: a seal at the moment of the renewal costs no token', async () => {
    await role({ default_ttl: '1h', max_ttl: '4h' })
    await start({ token_ttl: '12s', token_max_ttl: '1h' })
    const alice = await loginOf('alice')
    await inUse(7000, 'alice')
    await vault.seal()
    await inUse(3000, 'alice')
    await vault.unseal()
    await inUse(4000, 'alice')
    expect([await works(alice), (await loginOf('alice')).username]).toEqual([true, alice.username])
  })

  it('fault 46: a login that the database does not let go is asked for again, and the record says why', async () => {
    await role({ default_ttl: '1h', max_ttl: '4h' })
    await start({ token_ttl: '1h' })
    const alice = await loginOf('alice')
    await asAdmin(server, database, `create table mine (n int)`, `alter table mine owner to "${alice.username}"`)
    const revoked = await daemon.deputy('revoke', '--tenant', 'acme', '--user', 'alice', '--json')
    expect(JSON.parse(revoked.out)).toMatchObject({ leases: [{ user: 'alice', upstream: 'queued' }] })
    const [waiting] = JSON.parse((await daemon.deputy('lease', 'list', '--json')).out) as [
      { state: string; problem: string },
    ]
    expect(waiting).toMatchObject({ state: 'ending', problem: expect.stringMatching(/cannot be dropped/) as string })
    await asAdmin(server, database, 'drop table mine')
    await expect.poll(() => works(alice), { timeout: 20_000, interval: 250 }).toBe(false)
    await expect
      .poll(async () => JSON.parse((await daemon.deputy('lease', 'list', '--json')).out) as unknown, {
        timeout: 20_000,
      })
      .toEqual([])
  })

  it('fault 51, fault 52: a slow database leaves one login, and its words reach no caller', async () => {
    await role({ default_ttl: '1h', max_ttl: '4h' }, ['select pg_sleep(14)'])
    await start({ token_ttl: '1h' }, { timeout: '1s' })
    const before = await roles()
    const first = await exchange('alice')
    expect(first.body).toMatchObject({ reason: 'secret_backend_unavailable' })
    expect(JSON.stringify(first.body)).toMatch(/still being made/)
    await expect.poll(async () => (await exchange('alice')).status, { timeout: 30_000, interval: 250 }).toBe(200)
    expect((await roles()) - before).toBe(1)
    await role({ default_ttl: '1h', max_ttl: '4h' }, [`grant "nothing of ${server.port}" to "{{name}}"`])
    const broken = await exchange('bob')
    expect(broken.status).toBe(503)
    expect(broken.text).not.toMatch(new RegExp(`SQLSTATE|nothing of|${server.port}|v-approle`))
    expect(daemon.output()).toMatch(/SQLSTATE/)
  })
})
