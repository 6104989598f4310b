import { cp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { grantRecordName } from '../../src/foundation/store/records/grants.ts'
import { startOAuthProvider, type OAuthProviderDouble } from '../doubles/oauth-provider.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  ask,
  prepareDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type Answer,
  type RunningDaemon,
  type TestIssuer,
} from '../support/daemon.ts'
import { grantFiles, openState, seedGrants } from '../support/grants.ts'

let issuer: TestIssuer
let provider: OAuthProviderDouble
let daemon: RunningDaemon
beforeEach(async () => {
  issuer = await startTestIssuer()
  provider = await startOAuthProvider()
  daemon = await prepareDaemonHere({
    ...aCompany({ issuer: issuer.url, notes: { downstreams: { 'notes-api': { scopes: ['read'] } } } }),
    ...grantFiles(provider),
    'tenants/acme.yaml': {
      tenant: 'acme',
      issuers: [
        { issuer: issuer.url, claims: { display: 'preferred_username', tenant: { claim: 'org', value: 'acme' } } },
      ],
    },
  })
  await seedGrants(daemon.home, provider, ['alice', 'gustav'], {
    lifetime: 3_600_000,
    tenantOf: (user) => (user === 'gustav' ? 'globex' : 'acme'),
  })
  await daemon.start()
})
afterEach(async () => {
  await daemon?.close()
  await provider?.close()
  await issuer?.close()
})

const signed = (user: string, org: string): Promise<string> => issuer.sign({ aud: RESOURCES.notes, org, sub: user })
const exchange = async (user: string, org: string, token?: string): Promise<Answer> =>
  daemon.token({
    grant_type: TOKEN_EXCHANGE,
    subject_token: token ?? (await signed(user, org)),
    subject_token_type: ACCESS_TOKEN,
    audience: 'notes-api',
    scope: 'read',
  })
const ofAlice = (): Promise<Answer> => exchange('alice', 'acme')
const ofGustav = (): Promise<Answer> => exchange('gustav', 'globex')

describe('a tenant', () => {
  it('promise 4: that is frozen gets nothing, keeps what it has, and goes on when it is thawed', async () => {
    expect((await ofAlice()).status).toBe(200)
    const frozen = await daemon.deputy('tenant', 'freeze', '--tenant', 'acme', '--reason', 'audit')
    expect([frozen.code, frozen.out]).toEqual([0, expect.stringContaining('acme is frozen') as string])
    expect((await ofAlice()).body['reason']).toBe('subject_tenant_frozen')
    expect((await ofGustav()).status).toBe(200)
    await daemon.stop()
    await daemon.start()
    expect((await ofAlice()).body['reason']).toBe('subject_tenant_frozen')
    expect((await daemon.deputy('tenant', 'frozen')).out).toContain('audit')
    expect((await daemon.deputy('tenant', 'thaw', 'acme')).out).toBe('acme is thawed.\n')
    expect((await daemon.deputy('tenant', 'thaw', '--tenant', 'acme')).out).toContain('was not frozen')
    expect((await ofAlice()).status).toBe(200)
    expect(provider.refreshes).toHaveLength(0)
  })

  it('promises 4 and 8: that is destroyed is not readable in a backup either, and no other tenant is touched', async () => {
    expect((await daemon.deputy('tenant', 'destroy', '--tenant', 'acme')).code).toBe(2)
    expect((await ofAlice()).status).toBe(200)
    // A backup of the store, as it was when all was well.
    await daemon.stop()
    const backup = join(daemon.home, 'backup')
    await cp(join(daemon.home, 'state'), backup, { recursive: true, filter: (path) => !path.endsWith('/keys') })
    await daemon.start()

    const destroyed = await daemon.deputy('tenant', 'destroy', '--tenant', 'acme', '--yes')
    expect([destroyed.code, destroyed.out]).toEqual([0, expect.stringContaining('data key') as string])
    expect(provider.revoked.length).toBeGreaterThan(0)
    expect((await ofAlice()).status).not.toBe(200)
    expect((await ofGustav()).status).toBe(200)

    await daemon.stop()
    for (const name of await readdir(backup))
      await cp(join(backup, name), join(daemon.home, 'state', name), { recursive: true, force: true })
    for (const name of await readdir(join(daemon.home, 'state')))
      if (/-(wal|shm)$/.test(name) && !(await readdir(backup)).includes(name))
        await rm(join(daemon.home, 'state', name))
    const { store, envelope } = await openState(daemon.home)
    const grants = await store.grants.list({})
    expect(grants.map(({ user }) => user).sort()).toEqual(['alice', 'gustav'])
    const outcomes = await Promise.all(
      grants.map(async (grant) => [
        grant.user,
        await envelope.open(grantRecordName(grant), grant.sealed).then(
          () => 'readable',
          (error: { code: string }) => error.code,
        ),
      ]),
    )
    expect(Object.fromEntries(outcomes)).toEqual({ alice: 'secret_unreadable', gustav: 'readable' })
    await store.close()
    await daemon.start()
    expect((await ofAlice()).status).not.toBe(200)
    expect((await ofGustav()).status).toBe(200)
  })

  it('promise 4: everything, and an issuer, are revoked by commands that must be meant', async () => {
    const unsure = await daemon.deputy('revoke', '--everything')
    expect([unsure.code, unsure.err]).toEqual([2, expect.stringContaining('--yes') as string])
    expect((await daemon.deputy('revoke', '--everything', '--tenant', 'acme', '--yes')).code).toBe(2)
    expect((await daemon.deputy('revoke', '--everything', '--dry-run')).out).toContain('2 grants')
    expect((await ofAlice()).status).toBe(200)
    const old = await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub: 'alice' })
    const oldOfGustav = await signed('gustav', 'globex')
    const byIssuer = await daemon.deputy('revoke', '--issuer', issuer.url, '--tenant', 'globex', '--json')
    expect(byIssuer.code).toBe(0)
    expect([(await ofAlice()).status, (await exchange('gustav', 'globex', oldOfGustav)).body['reason']]).toEqual([
      200,
      'revoked',
    ])
    const all = await daemon.deputy('revoke', '--everything', '--yes')
    expect(all.out).toContain('2 grants')
    expect(
      (
        await daemon.token({
          grant_type: TOKEN_EXCHANGE,
          subject_token: old,
          subject_token_type: ACCESS_TOKEN,
          audience: 'notes-api',
          scope: 'read',
        })
      ).body['reason'],
    ).toBe('revoked')
  })

  it('fault 72: commands take the name that a token gives its user for the id, and say so', async () => {
    const named = { aud: RESOURCES.notes, org: 'acme', sub: 'alice', preferred_username: 'alice@company.example' }
    expect((await exchange('alice', 'acme', await issuer.sign(named))).status).toBe(200)
    const listed = await daemon.deputy('grant', 'list', '--tenant', 'acme', '--user', 'alice@company.example')
    expect(listed.out).toContain('grant-alice')
    const disabled = await daemon.deputy('user', 'disable', 'alice@company.example', '--tenant', 'acme')
    expect([disabled.code, disabled.out]).toEqual([
      0,
      expect.stringContaining('alice@company.example is the name of the user alice.\nalice of acme is disabled.'),
    ])
    expect((await ofAlice()).body['reason']).toBe('subject_user_disabled')
    const revoked = await daemon.deputy('revoke', '--tenant', 'acme', '--user', 'alice@company.example')
    expect([revoked.code, revoked.out]).toEqual([
      0,
      expect.stringMatching(/is the name of the user alice\.\nRevoked: 1 grant/),
    ])
    expect((await daemon.deputy('user', 'enable', 'alice@company.example', '--tenant', 'acme')).code).toBe(0)
  })

  it(
    'fault 9, promise 4: what does not exist is not revoked, disabled, frozen or removed; names that are near are told',
    { timeout: 90_000 },
    async () => {
      expect((await ofAlice()).status).toBe(200)
      const user = (tenant: string, name: string): object => ({ scope: { kind: 'user', tenant, user: name } })
      const orders: readonly (readonly [string, string, object])[] = [
        ['', '/revoke', { scope: { kind: 'tenant', tenant: 'nope' } }],
        ['acme', '/revoke', { scope: { kind: 'tenant', tenant: 'Acme' } }],
        ['acme', '/revoke', user('acme ', 'alice')],
        ['notes-api', '/revoke', { scope: { kind: 'downstream', downstream: 'notes-apy' } }],
        ['notes', '/revoke', { scope: { kind: 'provider', provider: 'NOTES' } }],
        ['grant-alice', '/revoke', { scope: { kind: 'grant', grant: 'grant-alcie' } }],
        [issuer.url, '/revoke', { scope: { kind: 'issuer', issuer: `${issuer.url}/` } }],
        ['alice', '/revoke', { ...user('acme', 'alcie'), dry_run: true }],
        ['alice', '/revoke', user('acme', 'alice ')],
        ['acme', '/tenants/freeze', { tenant: 'acmee' }],
        ['acme', '/tenants/thaw', { tenant: 'acmee' }],
        ['alice', '/users/disable', { tenant: 'acme', user: 'Alice' }],
        ['', '/users/enable', { tenant: 'acme', user: 'mallory' }],
        ['', '/secrets/remove', { tenant: 'acme', name: 'nothing' }],
      ]
      for (const [near, path, order] of orders) {
        const { status, body } = await ask(
          { socketPath: join(daemon.home, 'run/admin.sock') },
          { path, headers: { 'content-type': 'application/json' }, body: JSON.stringify(order) },
        )
        expect([path, order, status, String(body['error_description'])]).toEqual([
          path,
          order,
          404,
          expect.stringContaining(near === '' ? 'Nothing was changed' : `Did you mean '${near}'`),
        ])
      }
      for (const [code, near, ...args] of [
        [1, 'notes', 'revoke', '--server', 'nots'],
        [1, 'acme', 'user', 'disable', '--tenant', 'ACME', '--user', 'alice'],
        [6, 'alice', 'revoke', '--tenant', 'acme', '--user', 'alcie'],
      ] as const)
        expect([args, await daemon.deputy(...args)]).toMatchObject([
          args,
          { code, out: '', err: expect.stringContaining(`'${near}'`) as string },
        ])
      expect((await ofAlice()).status).toBe(200)

      // A token of nobody's is revoked, and the command says that it may have meant another one.
      const subject = await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub: 'alice', jti: 'the-token' })
      const use = async (): Promise<Answer> =>
        daemon.token({
          grant_type: TOKEN_EXCHANGE,
          subject_token: subject,
          subject_token_type: ACCESS_TOKEN,
          audience: 'notes-api',
          scope: 'read',
        })
      expect((await use()).status).toBe(200)
      const vague = await daemon.deputy('revoke', '--token', 'the-token')
      expect([vague.code, vague.err]).toEqual([6, expect.stringContaining(`Did you mean '${issuer.url}#the-token'?`)])
      expect((await use()).status).toBe(200)
      expect((await daemon.deputy('revoke', '--token', `${issuer.url}#the-token`)).code).toBe(0)
      expect((await use()).body['reason']).toBe('revoked')

      // Who means it can act before the user has come; who has come can be named when the grant is gone.
      expect((await daemon.deputy('user', 'disable', '--tenant', 'acme', '--user', 'mallory', '--force')).code).toBe(0)
      expect((await daemon.deputy('revoke', '--grant', 'grant-alice')).code).toBe(0)
      expect((await daemon.deputy('revoke', '--grant', 'grant-alice')).code).toBe(0)
      expect((await ofGustav()).status).toBe(200)
    },
  )
})
