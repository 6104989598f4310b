import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createStoredTokens } from '../../src/credentials/secret/vault/stored-tokens.ts'
import { createVaultDatabase } from '../../src/credentials/secret/vault/database.ts'
import { SecretCache } from '../../src/credentials/secret/secret-cache.ts'
import { Leases } from '../../src/credentials/secret/leases.ts'
import { createSystemRandom } from '../../src/clock.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import type { VaultLogin } from '../../src/config/secret-backends.ts'
import { startVaultDouble, type VaultDouble } from '../doubles/vault.ts'
import { startGround, type KeysAndStore } from '../support/keyring.ts'
import { connectToVault } from '../support/vaults.ts'

const ALICE = { tenant: 'acme', user: 'alice', server: 'notes', downstream: 'orders' }
const HOUR = 3_600_000
const QUESTION = { backend: 'vault', role: 'reader' }

describe('the tokens of Vault that leases are under', () => {
  let vault: VaultDouble
  let keysAndStore: KeysAndStore
  let offset: number
  let processes: { close(): Promise<void> }[]
  beforeEach(async () => {
    vault = await startVaultDouble()
    keysAndStore = await startGround()
    offset = 0
    processes = []
  })
  afterEach(async () => {
    for (const each of processes) await each.close()
    await keysAndStore.close()
    await vault.close()
  })
  const forward = (ms: number): void => {
    offset += ms
    vault.forward(ms)
  }
  const clock = { now: () => Date.now() + offset }

  /** A daemon's rooms over the store that they share. */
  const aProcess = () => {
    const login: VaultLogin = {
      approle: {
        mount: 'approle',
        role: 'deputy',
        role_id: vault.approle.roleId,
        secret_id: { env: 'S' },
        wrapped: false,
      },
    }
    const connection = connectToVault(vault, {
      login,
      token: vault.approle.secretId,
      clock,
      stored: (send) =>
        createStoredTokens({
          id: 'vault',
          place: vault.url,
          send,
          clock,
          logger: silentLogger,
          tokenStorage: {
            store: keysAndStore.store.backendTokens,
            envelope: keysAndStore.envelope,
            hasLeases: (accessor) => keysAndStore.store.leases.hasParent(accessor),
            ended: (accessor) => leases.lose(accessor),
          },
        }),
    })
    const database = createVaultDatabase({
      id: 'vault',
      mount: 'database',
      session: connection.session,
      clock,
      making: 1000,
    })
    const leases = new Leases({
      store: keysAndStore.store.leases,
      envelope: keysAndStore.envelope,
      backendOf: () => database,
      isVoid: () => false,
      isWanted: () => true,
      clock,
      random: createSystemRandom(),
      logger: silentLogger,
      audit: { append: () => Promise.resolve() },
    })
    let closed = false
    const each = {
      leases,
      connection,
      obtain: (user = 'alice') => leases.obtain({ ...ALICE, user }, QUESTION, () => database.make('reader')),
      login: async (user = 'alice') =>
        (JSON.parse((await each.obtain(user)).value.reveal()) as { username: string }).username,
      async close() {
        if (closed) return
        closed = true
        await leases.close()
        await connection.close()
      },
    }
    processes.push(each)
    return each
  }

  it('fault 42: a restart ends no login: the token is kept sealed, renewed by the next process, and ended once nothing is under it', async () => {
    vault.tokenTtl = 60
    const first = aProcess()
    const name = await first.login()
    const [row] = await keysAndStore.store.backendTokens.due('vault', Infinity, 10)
    expect(JSON.stringify(row)).not.toContain('hvs.')
    await first.close()
    expect(vault.accessors()).toContain(row!.accessor)

    const second = aProcess()
    for (let step = 0; step < 26; step += 1) {
      forward(4000)
      await expect
        .poll(async () => (await keysAndStore.store.backendTokens.find(row!.accessor))?.endsAt)
        .toBeGreaterThan(clock.now() + 5000)
      await second.leases.tick()
      expect(await second.login()).toBe(name)
      expect(vault.databaseUsers.has(name)).toBe(true)
    }
    await second.leases.end([{ user: 'alice' }])
    forward(55_000)
    await expect.poll(() => vault.accessors()).not.toContain(row!.accessor)
    await expect.poll(() => keysAndStore.store.backendTokens.find(row!.accessor)).toBeUndefined()
  })

  it("fault 42: no login outlives its token's longest life", async () => {
    vault.tokenTtl = 30
    vault.tokenMaxTtl = 30
    const { obtain } = aProcess()
    const names = new Set<string>()
    for (let second = 0; second < 120; second += 3) {
      const { value, expiresAt } = await obtain()
      const { username } = JSON.parse(value.reveal()) as { username: string }
      names.add(username)
      const lease = [...vault.leases.values()].find(({ id }) => id.includes('database'))
      expect([vault.databaseUsers.has(username), lease === undefined]).toEqual([true, false])
      const left = expiresAt - clock.now()
      forward(Math.min(3000, left - 1))
      // The double ends what is over with the next request of any kind.
      await fetch(`${vault.url}/v1/sys/health`)
      expect(vault.databaseUsers.has(username)).toBe(true)
      forward(3000 - Math.min(3000, left - 1))
    }
    expect(names.size).toBeGreaterThan(2)
  })

  it('fault 43: denied paths cost no token and no login', async () => {
    const { login, connection } = aProcess()
    const name = await login()
    vault.allows = (_method, path) => !path.startsWith('secret/')
    for (let times = 0; times < 4; times += 1) {
      forward(6000)
      await expect(connection.backend.read('acme', 'key')).rejects.toMatchObject({ code: 'secret_backend_refused' })
    }
    expect(await login()).toBe(name)
    expect([vault.databaseUsers.has(name), vault.accessors()]).toMatchObject([true, { length: 2 }])
  })

  it('fault 43: a token that Vault has ended costs its logins, and none of them is handed out again', async () => {
    const { login, connection } = aProcess()
    const name = await login()
    vault.revokeTokens()
    forward(6000)
    vault.put('deputy/acme/key', { value: 'v' })
    expect((await connection.backend.read('acme', 'key')).value.reveal()).toBe('v')
    const next = await login()
    expect([next === name, vault.databaseUsers.has(next)]).toEqual([false, true])
  })

  it('fault 44: a renewal that failed is tried again until it succeeds', async () => {
    vault.tokenTtl = 3
    const { connection } = aProcess()
    vault.put('deputy/acme/key', { value: 'v' })
    await connection.backend.read('acme', 'key')
    const renewals = () => vault.asked.filter(({ path }) => path === 'auth/token/renew-self').length
    vault.sealed = true
    await expect.poll(renewals).toBeGreaterThan(0)
    vault.sealed = false
    await expect.poll(renewals).toBeGreaterThan(1)
    expect(vault.asked.filter(({ path }) => path.endsWith('/login'))).toHaveLength(1)
  })

  it('fault 47: that a login is refused takes no copy of a secret away', async () => {
    vault.put('deputy/acme/key', { value: 'v' })
    const { connection } = aProcess()
    const cache = new SecretCache(connection.backend, {
      id: 'vault',
      fresh: 1000,
      stale: HOUR,
      limit: 10_000,
      clock,
      monotonic: clock.now,
      logger: silentLogger,
    })
    await cache.read('acme', 'key')
    vault.revokeTokens()
    vault.spoil.push('pass', 'pass', { status: 403, body: { errors: ['permission denied'] } })
    forward(6000)
    await expect(cache.read('acme', 'key')).rejects.toMatchObject({
      code: 'secret_backend_refused',
      message: expect.stringMatching(/the login at/) as string,
    })
    vault.sealed = true
    expect((await cache.read('acme', 'key')).value.reveal()).toBe('v')
  })

  it('fault 58: a token that nothing is under ends with the process', async () => {
    const each = aProcess()
    vault.put('deputy/acme/key', { value: 'v' })
    await each.connection.backend.read('acme', 'key')
    expect(vault.accessors()).toHaveLength(2)
    await each.close()
    expect(vault.accessors()).toHaveLength(1)
  })

  it("fault 52: the driver's words reach no caller", async () => {
    const { obtain } = aProcess()
    vault.brokenDriver = `ERROR: syntax error at or near "s3cr" (SQLSTATE 42601) at postgres://admin@10.1.2.3/orders`
    const error = await obtain().catch((thrown: unknown) => thrown as Error)
    expect(error).toMatchObject({
      code: 'secret_backend_unavailable',
      message: expect.not.stringMatching(/SQLSTATE|s3cr|10\.1/) as string,
    })
    expect(String((error as Error).cause)).toMatch(/SQLSTATE/)
    expect(String((error as Error).cause)).not.toMatch(/s3cr/)
  })
})
