import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startVaultDouble, type VaultDouble } from '../doubles/vault.ts'
import { findPostgres, startPostgres, type PostgresServer } from '../peers/postgres.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  startDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type DaemonHere,
  type TestIssuer,
} from '../support/daemon.ts'
import { letVaultMakeLogins, logsIn, vaultSettings, type Login } from '../support/postgres-logins.ts'

const bin = findPostgres()
describe.skipIf(bin === undefined)('a daemon that gives every user a login of their own at a real Postgres', () => {
  let server: PostgresServer
  let issuer: TestIssuer
  let vault: VaultDouble
  let daemon: DaemonHere
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
    vault = await startVaultDouble()
    database = await server.createDatabase()
    letVaultMakeLogins(vault, server, database)
    const company = aCompany({
      issuer: issuer.url,
      notes: { downstreams: { orders: { scopes: [] }, reports: { scopes: [] } } },
    })
    daemon = await startDaemonHere(
      {
        ...company,
        'state/token': vault.rootToken,
        'downstreams/orders.yaml': { downstream: 'orders', credential: 'dynamic', backend: 'vault', role: 'reader' },
        'downstreams/reports.yaml': {
          downstream: 'reports',
          credential: 'dynamic',
          backend: 'vault',
          role: 'app',
          role_kind: 'static',
        },
        'policies/access/orders.cedar':
          '@id("orders")\npermit (principal, action == Deputy::Action::"dynamic", resource);',
      },
      { secrets: vaultSettings(vault) },
    )
  })
  afterEach(async () => {
    await daemon?.close()
    await vault?.close()
  })

  const works = (login: Login): Promise<boolean> => logsIn(server, database, login)
  const exchange = async (sub: string, audience = 'orders') =>
    daemon.token({
      grant_type: TOKEN_EXCHANGE,
      subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub }),
      subject_token_type: ACCESS_TOKEN,
      audience,
    })
  const loginOf = async (sub: string, audience?: string): Promise<Login> =>
    JSON.parse(String((await exchange(sub, audience)).body['access_token'])) as Login
  const leases = async (): Promise<{ id: string; user: string; state: string }[]> =>
    JSON.parse((await daemon.deputy('lease', 'list', '--json')).out) as { id: string; user: string; state: string }[]

  it('promise 4: each user has their own, the same one each time, and a revocation ends it at the database', async () => {
    const [alice, bob] = [await loginOf('alice'), await loginOf('bob')]
    expect([await works(alice), await works(bob), alice.username === bob.username]).toEqual([true, true, false])
    expect(await loginOf('alice')).toEqual(alice)
    expect((await leases()).map(({ user, state }) => [user, state])).toEqual([
      ['alice', 'active'],
      ['bob', 'active'],
    ])

    const revoked = await daemon.deputy('revoke', '--tenant', 'acme', '--user', 'alice', '--json')
    expect(JSON.parse(revoked.out)).toMatchObject({ leases: [{ user: 'alice', upstream: 'done' }] })
    expect([await works(alice), await works(bob)]).toEqual([false, true])
    expect((await leases()).map(({ user }) => user)).toEqual(['bob'])
  })

  it('promise 4: ends one lease on a command; the user gets another login afterwards', async () => {
    const alice = await loginOf('alice')
    const id = (await leases())[0]!.id
    const ended = await daemon.deputy('lease', 'revoke', '--id', id)
    expect(ended).toMatchObject({ code: 0, out: expect.stringMatching(/1 lease[\s\S]*ended/) })
    expect(await works(alice)).toBe(false)
    const next = await loginOf('alice')
    expect([await works(next), next.username === alice.username]).toEqual([true, false])
    expect(await daemon.deputy('lease', 'revoke', '--id', 'nothing')).toMatchObject({
      code: 1,
      err: expect.stringMatching(/There is no grant or lease 'nothing'/) as string,
    })
  })

  it('keeps leases over a restart, and ends those that the files speak of no more', async () => {
    const { kill } = await daemon.moveToProcess()
    const alice = await loginOf('alice')
    await kill()
    await daemon.start()
    expect(await loginOf('alice')).toEqual(alice)
    await daemon.stop()
    await daemon.write({
      'downstreams/orders.yaml': { downstream: 'orders', credential: 'dynamic', backend: 'vault', role: 'writer' },
    })
    await daemon.start()
    await expect.poll(() => works(alice), { timeout: 15_000, interval: 100 }).toBe(false)
    await expect.poll(leases).toEqual([])
  })

  it('gives the login of a static role for as long as it is the right one', async () => {
    await vault.onUser('app', 'the-first')
    const first = await exchange('alice', 'reports')
    expect(await works(await loginOf('alice', 'reports'))).toBe(true)
    expect(Number(first.body['expires_in'])).toBeGreaterThan(0)
    expect(await leases()).toEqual([])
  })

  it('says what cannot be: a backend that makes no credentials', async () => {
    await daemon.write({
      'downstreams/orders.yaml': { downstream: 'orders', credential: 'dynamic', backend: 'embedded', role: 'reader' },
    })
    expect((await daemon.deputy('check')).out).toMatch(/The backend embedded makes no credentials/)
  })
})
