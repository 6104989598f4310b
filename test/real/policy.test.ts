import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { secretBackendSchema } from '../../src/config/secret-backends.ts'
import { createSecretBackends, type SecretBackends } from '../../src/credentials/secret/backends.ts'
import { createEmbeddedSecrets } from '../../src/credentials/secret/embedded.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { findOpenBao, startOpenBao, type OpenBao } from '../peers/openbao.ts'
import { findPostgres, startPostgres, type PostgresServer } from '../peers/postgres.ts'
import { asAdmin } from '../support/postgres-logins.ts'
import { startGround, type KeysAndStore } from '../support/keyring.ts'

const TOKEN = '0123456789abcdef0123456789abcdef'

/** The policy that docs/vaults.md prints. */
const printedPolicy = async (): Promise<string> => {
  const page = await readFile(new URL('../../docs/vaults.md', import.meta.url), 'utf8')
  return /```hcl\n([\s\S]*?)```/.exec(page)![1]!
}

const [bao, bin] = [findOpenBao(), findPostgres()]
describe.skipIf(bao === undefined || bin === undefined)('what a real OpenBao asks of Deputy', () => {
  let server: OpenBao
  let postgres: PostgresServer
  let keysAndStore: KeysAndStore
  let backends: SecretBackends | undefined
  const violations: Error[] = []
  const own = new Map<string, Secret>()
  beforeAll(async () => {
    server = await startOpenBao(bao!)
    postgres = await startPostgres(bin!)
    const database = await postgres.createDatabase()
    await server.database(postgres, database)
    await server.must('POST', 'database/roles/reader', {
      db_name: 'orders',
      creation_statements: [`CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'`],
      default_ttl: '60s',
      max_ttl: '5m',
    })
    await asAdmin(postgres, database, `create role app login password 'first'`)
    await server.must('POST', 'database/static-roles/app', {
      db_name: 'orders',
      username: 'app',
      rotation_period: '24h',
    })
    await server.must('POST', 'sys/mounts/pki', { type: 'pki' })
    await server.must('POST', 'pki/root/generate/internal', { common_name: 'test', ttl: '1h' })
    await server.must('POST', 'pki/roles/client', { allow_any_name: true, ttl: '5m' })
  })
  beforeEach(async () => {
    keysAndStore = await startGround()
    violations.length = 0
    own.clear()
  })
  afterEach(async () => {
    await backends?.close()
    backends = undefined
    await keysAndStore?.close()
  })
  afterAll(async () => {
    await server?.close()
    await postgres?.close()
  })

  const open = async (roleId: string, secretId: string, wrapped = false): Promise<SecretBackends> => {
    const settings = secretBackendSchema.parse({
      kind: 'vault',
      address: server.url,
      login: { approle: { role: 'deputy', role_id: roleId, secret_id: { env: 'SECRET_ID' }, wrapped } },
      path: 'deputy/{tenant}/{secret}',
    })
    backends = await createSecretBackends(
      { vault: settings },
      {
        home: keysAndStore.folder,
        environment: { SECRET_ID: secretId },
        clock: systemClock,
        monotonic: () => performance.now(),
        logger: silentLogger,
        embedded: createEmbeddedSecrets({
          store: keysAndStore.store.secrets,
          envelope: keysAndStore.envelope,
          clock: systemClock,
        }),
        own: async (name, make, isGood) => {
          const found = own.get(name)
          if (found === undefined || !isGood(found)) own.set(name, await make())
          return own.get(name)!
        },
        violated: (error) => {
          violations.push(error)
          return Promise.resolve()
        },
      },
    )
    return backends
  }
  const accessors = async (): Promise<string[]> =>
    ((await server.must('LIST', 'auth/token/accessors')) as { data: { keys: string[] } }).data.keys

  it('fault 59: the printed policy is complete: a role without `default` can do all that Deputy does', async () => {
    const before = await accessors()
    const { roleId, secretId } = await server.approle(
      { token_no_default_policy: true, token_ttl: '3s', token_max_ttl: '5m' },
      await printedPolicy(),
    )
    const { data } = (await server.must('GET', 'auth/approle/role/deputy')) as { data: Record<string, unknown> }
    expect(data).toMatchObject({ token_no_default_policy: true, token_policies: ['deputy'] })
    const opened = await open(roleId, secretId)
    const secrets = opened.get('vault')!
    await expect(secrets.read('acme', 'none')).rejects.toMatchObject({ code: 'secret_missing' })
    const [own] = (await accessors()).filter((each) => !before.includes(each))
    await server.must('POST', 'secret/data/deputy/acme/key', { data: { value: 'old', owner: 'data' } })
    const old = await secrets.read('acme', 'key')
    await secrets.promote('acme', 'key', await secrets.stage('acme', 'key', new Secret('new'), TOKEN), old)
    await secrets.retire('acme', 'key', old)
    expect((await secrets.read('acme', 'key')).value.reveal()).toBe('new')
    expect(await secrets.find('acme', 'key', 'previous')).toBeUndefined()
    const pending = await secrets.stage('acme', 'key', new Secret('never'), TOKEN.replace('0', 'f'))
    await secrets.discard('acme', 'key', pending.version)

    const database = opened.dynamic('vault')!
    const made = await database.make('reader')
    const held = { tenant: 'acme', downstream: 'orders', open: () => Promise.resolve(made.value) }
    expect(await database.renew(made.lease, 60_000, made.parent?.name ?? null)).toMatchObject({ isLast: false })
    await database.end(made.lease, held)
    expect((await server.ask('POST', 'sys/leases/lookup', { lease_id: made.lease })).status).toBe(400)
    const first = (await database.readStatic('app')).value.reveal()
    await database.rotateStatic('app')
    expect((await database.readStatic('app')).value.reveal()).not.toBe(first)

    const pki = opened.leased('vault/pki')!
    const certificate = await pki.make('client', { name: 'acme', duration: 60_000 })
    await pki.end(certificate.lease, { ...held, open: () => Promise.resolve(certificate.value) })

    // Its token was renewed meanwhile, without another login, and ends with the process.
    await sleep(3500)
    expect((await secrets.read('acme', 'key')).value.reveal()).toBe('new')
    expect((await accessors()).filter((each) => !before.includes(each))).toEqual([own])
    await opened.close()
    backends = undefined
    expect((await accessors()).sort()).toEqual(before.sort())
  })

  it('fault 57: a wrapped secret id survives a restart; one that was opened elsewhere is a security event', async () => {
    const { roleId } = await server.approle({ token_no_default_policy: true }, await printedPolicy())
    await server.must('POST', 'secret/data/deputy/acme/wrapped', { data: { value: 'v' } })
    const wrap = async (): Promise<string> => {
      const response = await fetch(`${server.url}/v1/auth/approle/role/deputy/secret-id`, {
        method: 'POST',
        headers: { 'x-vault-token': server.rootToken, 'x-vault-wrap-ttl': '60s' },
      })
      return ((await response.json()) as { wrap_info: { token: string } }).wrap_info.token
    }
    const read = async (token: string): Promise<string> => {
      const opened = await open(roleId, token, true)
      try {
        return (await opened.read({ tenant: 'acme', backend: 'vault', secret: 'wrapped' })).value.reveal()
      } finally {
        await opened.close()
        backends = undefined
      }
    }
    const token = await wrap()
    expect([await read(token), await read(token), await read(await wrap())]).toEqual(['v', 'v', 'v'])
    expect(violations).toEqual([])
    const stolen = await wrap()
    expect((await server.ask('POST', 'sys/wrapping/unwrap', undefined, stolen)).status).toBe(200)
    await expect(read(stolen)).rejects.toMatchObject({ code: 'wrapping_violated' })
    expect(violations).toHaveLength(1)
    // One that was made at another path is not opened.
    const forged = (
      (await (
        await fetch(`${server.url}/v1/sys/wrapping/wrap`, {
          method: 'POST',
          headers: { 'x-vault-token': server.rootToken, 'x-vault-wrap-ttl': '60s' },
          body: JSON.stringify({ secret_id: 'forged' }),
        })
      ).json()) as { wrap_info: { token: string } }
    ).wrap_info.token
    await expect(read(forged)).rejects.toMatchObject({
      code: 'wrapping_violated',
      message: expect.stringMatching(/made at sys\/wrapping\/wrap/) as string,
    })
    expect((await server.ask('POST', 'sys/wrapping/lookup', { token: forged })).status).toBe(200)
  })
})
