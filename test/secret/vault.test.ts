import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import type { VaultLogin } from '../../src/config/secret-backends.ts'
import type { OwnSecret } from '../../src/credentials/secret/vault/login.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { describeSecretBackend, describeStagedSecrets } from '../conformance/secret-backend.ts'
import { startVaultDouble, type VaultDouble } from '../doubles/vault.ts'
import { aVault, connectToVault } from '../support/vaults.ts'

const TOKEN = '0123456789abcdef0123456789abcdef'

describeSecretBackend('Vault', aVault)
describeStagedSecrets('Vault', aVault)
// Mounts demand check-and-set only where they are told to.
describeStagedSecrets('a Vault that demands check-and-set', async () => {
  const place = await aVault()
  place.vault.casRequired = true
  return place
})

describe('Vault', () => {
  let vault: VaultDouble
  let opened: ReturnType<typeof connectToVault>[]
  const open = (given: Parameters<typeof connectToVault>[1] = {}) => {
    const connection = connectToVault(vault, given)
    opened.push(connection)
    return connection
  }
  beforeEach(async () => {
    vault = await startVaultDouble()
    opened = []
    vault.put('deputy/acme/key', { value: 'v' })
  })
  afterEach(async () => {
    for (const each of opened) await each.close()
    await vault.close()
  })
  const read = async ({ backend }: ReturnType<typeof connectToVault>) =>
    (await backend.read('acme', 'key')).value.reveal()
  const jwtFile = async (text: string): Promise<string> => {
    const folder = await mkdtemp(join(tmpdir(), 'deputy-jwt-'))
    onTestFinished(() => rm(folder, { recursive: true, force: true }))
    await writeFile(join(folder, 'token'), `${text}\n`)
    return join(folder, 'token')
  }
  const logins = (): number => vault.asked.filter(({ path }) => path.endsWith('/login')).length

  describe('logins', () => {
    const approle = (wrapped = false): VaultLogin => ({
      approle: { mount: 'approle', role: 'deputy', role_id: vault.approle.roleId, secret_id: { env: 'S' }, wrapped },
    })
    it('requirement 29: AppRole, Kubernetes, JWT and a given token, with the headers that Vault wants', async () => {
      expect(await read(open({ login: approle(), token: vault.approle.secretId, namespace: 'team-a' }))).toBe('v')
      expect(vault.asked.every(({ namespace }) => namespace === 'team-a')).toBe(true)
      expect(
        await read(
          open({ login: { kubernetes: { mount: 'kubernetes', role: 'deputy', token: await jwtFile(vault.jwt) } } }),
        ),
      ).toBe('v')
      expect(
        await read(open({ login: { jwt: { mount: 'jwt', role: 'deputy', token: await jwtFile(vault.jwt) } } })),
      ).toBe('v')
      expect(await read(open({ token: vault.issueToken(60) }))).toBe('v')
    })

    it("requirement 29: fault 52: a wrong login is refused in Vault's own words for admins, without what was sent", async () => {
      const failed = await read(open({ login: approle(), token: 'canary-secret-id' })).catch(
        (error: unknown) => error as Error,
      )
      expect(failed).toMatchObject({
        code: 'secret_backend_refused',
        message: expect.not.stringMatching(/invalid role/) as string,
        facts: { answered: expect.stringMatching(/invalid role or secret ID/) as string },
      })
      expect(String(failed)).not.toContain('canary')
      await expect(
        read(open({ login: { kubernetes: { mount: 'kubernetes', role: 'other', token: await jwtFile(vault.jwt) } } })),
      ).rejects.toMatchObject({ code: 'secret_backend_refused' })
      await expect(
        read(open({ login: { jwt: { mount: 'jwt', role: 'deputy', token: '/no/such/file' } } })),
      ).rejects.toMatchObject({ code: 'secret_backend_refused' })
    })

    it('requirement 29: many requests at once share one login; a token that ended or was revoked is replaced, once', async () => {
      const connection = open({ login: approle(), token: vault.approle.secretId })
      await Promise.all(Array.from({ length: 20 }, () => read(connection)))
      expect(logins()).toBe(1)
      connection.forward(4_000_000)
      expect(await read(connection)).toBe('v')
      expect(logins()).toBe(2)
      vault.revokeTokens()
      connection.forward(6000)
      expect(await read(connection)).toBe('v')
      expect(logins()).toBe(3)
    })

    it('requirement 29: renews the token before it ends', async () => {
      vault.tokenTtl = 2
      const connection = open({ login: approle(), token: vault.approle.secretId })
      await read(connection)
      await expect
        .poll(() => vault.asked.filter(({ path }) => path === 'auth/token/renew-self').length)
        .toBeGreaterThan(0)
      expect(await read(connection)).toBe('v')
      expect(logins()).toBe(1)
    })

    it('fault 43: what the policy forbids stays forbidden, and costs neither the token nor a login', async () => {
      const connection = open({ login: approle(), token: vault.approle.secretId })
      vault.allows = (_method, path) => !path.startsWith('secret/')
      for (let times = 0; times < 5; times += 1)
        await expect(read(connection)).rejects.toMatchObject({
          code: 'secret_backend_refused',
          message: expect.not.stringMatching(/permission denied/) as string,
          facts: { answered: 'permission denied' },
        })
      expect(logins()).toBe(1)
      for (let times = 0; times < 3; times += 1) {
        connection.forward(6000)
        await expect(read(connection)).rejects.toMatchObject({ code: 'secret_backend_refused' })
      }
      expect(logins()).toBe(1)
      // Nor where the policies do not even let the token look at itself.
      vault.allows = () => false
      connection.forward(6000)
      await expect(read(connection)).rejects.toMatchObject({ code: 'secret_backend_refused' })
      expect(logins()).toBe(1)
    })

    it('requirement 33: a wrapped secret id is looked up, checked and opened once', async () => {
      const connection = open({ login: approle(true), token: vault.wrapSecretId() })
      expect(await read(connection)).toBe('v')
      connection.forward(4_000_000)
      // It logs in anew with what it took out then.
      expect(await read(connection)).toBe('v')
      expect(vault.asked.filter(({ path }) => path === 'sys/wrapping/unwrap')).toHaveLength(1)
    })

    it('fault 57: a plain restart needs no other wrapping token, and is no security event; another token takes its place', async () => {
      const kept = new Map<string, Secret>()
      const own: OwnSecret = async (name, make, isGood) => {
        const found = kept.get(name)
        if (found === undefined || !isGood(found)) kept.set(name, await make())
        return kept.get(name)!
      }
      const violations: Error[] = []
      const violated = async (violation: Error): Promise<void> => {
        violations.push(violation)
        await Promise.resolve()
      }
      const start = (token: string) => open({ login: approle(true), token, own, violated })
      const first = vault.wrapSecretId()
      expect([await read(start(first)), await read(start(first))]).toEqual(['v', 'v'])
      expect(await read(start(vault.wrapSecretId()))).toBe('v')
      expect(violations).toEqual([])
      expect(vault.asked.filter(({ path }) => path === 'sys/wrapping/unwrap')).toHaveLength(2)
      // A token that somebody else has opened stays a violation.
      await expect(read(start(first))).rejects.toMatchObject({ code: 'wrapping_violated' })
      expect(violations).toHaveLength(1)
    })

    it('requirement 33: a wrapping token that was made elsewhere is not opened; one that was opened before is a security event', async () => {
      const forged = vault.wrapSecretId('cubbyhole/mine')
      await expect(read(open({ login: approle(true), token: forged }))).rejects.toMatchObject({
        code: 'wrapping_violated',
        message: expect.stringMatching(/cubbyhole\/mine/),
      })
      expect(vault.asked.some(({ path }) => path === 'sys/wrapping/unwrap')).toBe(false)
      const token = vault.wrapSecretId()
      await read(open({ login: approle(true), token }))
      await expect(read(open({ login: approle(true), token }))).rejects.toMatchObject({ code: 'wrapping_violated' })
    })
  })

  describe('answers', () => {
    it.each([412, 429, 472, 473, 500, 502, 503])(
      'requirement 28: %s is asked again, and is an outage when it lasts',
      async (status) => {
        const connection = open()
        await read(connection)
        vault.spoil.push({ status, body: { errors: [] } })
        expect(await read(connection)).toBe('v')
        vault.spoil.push(...Array.from({ length: 3 }, () => ({ status, body: { errors: ['canary of an error'] } })))
        await expect(read(connection)).rejects.toMatchObject({
          code: 'secret_backend_unavailable',
          message: expect.not.stringMatching(/canary/) as string,
          facts: { problem: `it answered ${status}`, answered: 'canary of an error' },
        })
      },
    )

    it('fault 45: what one path is to blame for costs no other path anything, and a renewal is not behind the breaker', async () => {
      vault.put('deputy/globex/key', { value: 'w' })
      const connection = open()
      vault.brokenDriver = 'ERROR: relation does not exist'
      const broken = () => connection.session.ask({ method: 'GET', path: 'database/creds/reader' })
      for (let times = 0; times < 8; times += 1) await broken().catch(() => undefined)
      const before = vault.asked.length
      await expect(broken()).rejects.toMatchObject({ message: expect.stringMatching(/pauses its requests/) as string })
      expect(vault.asked).toHaveLength(before)
      expect(await read(connection)).toBe('v')
      vault.sealed = true
      for (let times = 0; times < 8; times += 1) await read(connection).catch(() => undefined)
      vault.sealed = false
      // Everything is left alone now, but for what keeps tokens and leases alive, or ends them.
      await expect(connection.backend.read('globex', 'key')).rejects.toMatchObject({
        message: expect.stringMatching(/pauses its requests/) as string,
      })
      const renewal = { method: 'POST', path: 'sys/leases/renew', body: { lease_id: 'none' } } as const
      expect((await connection.session.ask(renewal)).status).toBe(400)
    })

    it('fault 47: a standby is followed once to the leader, and is an outage where it leads to none', async () => {
      const leader = await startVaultDouble()
      onTestFinished(() => leader.close())
      leader.put('deputy/acme/key', { value: 'of the leader' })
      const connection = open({ token: leader.rootToken })
      vault.leader = leader.url
      expect(await read(connection)).toBe('of the leader')
      // Elections, and what would lead away from Vault, or in a circle.
      for (const location of ['', 'https://elsewhere.example:1', vault.url]) {
        vault.leader = location
        await expect(read(connection)).rejects.toMatchObject({ code: 'secret_backend_unavailable' })
      }
      vault.spoil.push({ status: 307, headers: { location: `${leader.url}/v1/sys/seal` } })
      await expect(read(connection)).rejects.toMatchObject({ message: expect.stringMatching(/standby/) as string })
      expect(leader.asked.some(({ path }) => path === 'sys/seal')).toBe(false)
    })

    it.each([404, 403])('fault 47: %s that is not in the words of Vault is an outage', async (status) => {
      const connection = open()
      await read(connection)
      vault.spoil.push({ status, body: { message: 'no such route' } })
      await expect(read(connection)).rejects.toMatchObject({ code: 'secret_backend_unavailable' })
    })

    it.each([502, 503])('fault 54: %s with a page of HTML is asked again', async (status) => {
      const connection = open()
      await read(connection)
      vault.spoil.push({ status, html: '<html>Bad Gateway</html>' })
      expect(await read(connection)).toBe('v')
    })

    it('requirement 28: sealed, silent, gone and nonsense are outages; after several it is left alone', async () => {
      const connection = open({ timeout: 200 })
      await read(connection)
      vault.sealed = true
      await expect(read(connection)).rejects.toMatchObject({
        code: 'secret_backend_unavailable',
        facts: { answered: expect.stringMatching(/sealed/) as string },
      })
      vault.sealed = false
      vault.spoil.push('hang', 'drop', { status: 200, body: { data: 'nonsense' } })
      await expect(read(connection)).rejects.toMatchObject({
        code: 'secret_backend_unavailable',
        message: expect.stringMatching(/in time/),
      })
      await expect(read(connection)).rejects.toMatchObject({ code: 'secret_backend_unavailable' })
      await expect(read(connection)).rejects.toMatchObject({
        code: 'secret_backend_unavailable',
        message: expect.stringMatching(/documentation/),
      })
      vault.sealed = true
      for (let times = 0; times < 6; times += 1) await read(connection).catch(() => undefined)
      const before = vault.asked.length
      await expect(read(connection)).rejects.toMatchObject({ message: expect.stringMatching(/pauses its requests/) })
      expect(vault.asked).toHaveLength(before)
    })

    it('fault 55: a mount of version 1 is told as that, and nothing is written into it', async () => {
      vault.kvVersion = 1
      const connection = open()
      const v1 = { code: 'secret_backend_refused', message: expect.stringMatching(/KV engine of version 1/) as string }
      await expect(read(connection)).rejects.toMatchObject(v1)
      await expect(connection.backend.stage('acme', 'key', new Secret('new'), TOKEN)).rejects.toMatchObject(v1)
      expect(vault.asked.filter(({ method }) => method === 'POST')).toEqual([])
      vault.kvVersion = 2
      await expect(open().backend.read('acme', 'none')).rejects.toMatchObject({ code: 'secret_missing' })
    })

    it('requirement 30: a deleted version is missing, and the next one counts on from it', async () => {
      const connection = open()
      vault.remove('deputy/acme/key')
      await expect(read(connection)).rejects.toMatchObject({ code: 'secret_missing' })
      const staged = await connection.backend.stage('acme', 'key', new Secret('new'), TOKEN)
      await connection.backend.promote('acme', 'key', staged, undefined)
      expect(await read(connection)).toBe('new')
      expect(vault.entry('deputy/acme/key')).toHaveLength(2)
    })

    it('an entry without the field is refused by name, and never shown', async () => {
      vault.put('deputy/acme/key', { other: 'canary' })
      const failed = await read(open()).catch((error: unknown) => error as Error)
      expect(failed).toMatchObject({
        code: 'secret_backend_refused',
        message: expect.stringMatching(/no text in the field value/),
      })
      expect(String(failed)).not.toContain('canary')
    })
  })

  describe('versions', () => {
    it('keeps the other fields of an entry', async () => {
      vault.put('deputy/acme/key', { value: 'old', owner: 'data' })
      const { backend } = open()
      const current = await backend.read('acme', 'key')
      await backend.promote('acme', 'key', await backend.stage('acme', 'key', new Secret('new'), TOKEN), current)
      expect(vault.entry('deputy/acme/key')!.at(-1)!.data).toMatchObject({ value: 'new', owner: 'data' })
    })

    it('takes an entry as a whole where the settings say so', async () => {
      vault.put('deputy/acme/key', { username: 'app', password: 'old' })
      const { backend } = open({ field: null })
      expect(JSON.parse((await backend.read('acme', 'key')).value.reveal())).toEqual({
        username: 'app',
        password: 'old',
      })
      await backend.promote(
        'acme',
        'key',
        await backend.stage('acme', 'key', new Secret('{"username":"app","password":"new"}'), TOKEN),
        await backend.read('acme', 'key'),
      )
      expect(JSON.parse((await backend.read('acme', 'key')).value.reveal())).toEqual({
        username: 'app',
        password: 'new',
      })
      await expect(backend.stage('acme', 'other', new Secret('no JSON'), TOKEN)).rejects.toMatchObject({
        code: 'secret_backend_refused',
      })
    })

    it('requirement 30: somebody who writes between look and write is not overwritten', async () => {
      const { backend } = open()
      const current = await backend.read('acme', 'key')
      const staged = await backend.stage('acme', 'key', new Secret('new'), TOKEN)
      // The write of a person arrives first: Vault answers the check-and-set with a mismatch.
      vault.allows = (method, path) => {
        if (method === 'POST' && path === 'secret/data/deputy/acme/key') {
          vault.allows = () => true
          vault.put('deputy/acme/key', { value: 'of a person' })
        }
        return true
      }
      await expect(backend.promote('acme', 'key', staged, current)).rejects.toMatchObject({ code: 'conflict' })
      expect((await backend.read('acme', 'key')).value.reveal()).toBe('of a person')
    })

    it('threat 28: whose answer was lost is done again, and is one version', async () => {
      const { backend } = open()
      const current = await backend.read('acme', 'key')
      // Looks at the mount, then writes.
      vault.spoil.push('pass', 'drop')
      await expect(backend.stage('acme', 'key', new Secret('new'), TOKEN)).rejects.toMatchObject({
        code: 'secret_backend_unavailable',
      })
      const staged = await backend.stage('acme', 'key', new Secret('newer'), TOKEN)
      expect(staged.value.reveal()).toBe('new')
      // Looks at the entry, then writes.
      vault.spoil.push('pass', 'drop')
      await expect(backend.promote('acme', 'key', staged, current)).rejects.toMatchObject({
        code: 'secret_backend_unavailable',
      })
      expect(vault.entry('deputy/acme/key')).toHaveLength(2)
      await backend.promote('acme', 'key', staged, current)
      expect(vault.entry('deputy/acme/key')).toHaveLength(2)
      expect(vault.entry('deputy/acme/key~pending')).toBeUndefined()
    })
  })
})
