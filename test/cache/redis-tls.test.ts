import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createSharedBytes } from '../../src/foundation/redis/redis.ts'
import { settingsSchema } from '../../src/config/settings.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { readTlsFiles } from '../../src/foundation/files/tls-files.ts'
import { logIn } from '../../src/listeners/database-proxy/redis/login.ts'
import { redisOptions } from '../../src/daemon/foundation/foundation.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { createRedisRotator } from '../../src/flows/rotation/rotators/redis.ts'
import { askRedis, findRedis, startRedis, type RedisServer } from '../peers/redis.ts'
import { aCertificateAuthority, type Issued } from '../support/certificates.ts'
import { freePort } from '../support/process.ts'

const HOST = '127.0.0.1'
const BACK = { ca: 'ca.pem', certificate: 'deputy.pem', key: 'deputy-key.pem' }
const LOGIN = new Secret(JSON.stringify({ username: 'deputy', password: 'at-the-server' }))

describe.skipIf(!findRedis())('fault 98: a Redis that asks for certificates', () => {
  let home: string
  let master: RedisServer
  let sentinel: RedisServer
  const ports = { master: 0, sentinel: 0 }
  const write = async (name: string, { certificate, key }: Issued): Promise<void> => {
    await writeFile(join(home, `${name}.pem`), certificate)
    await writeFile(join(home, `${name}-key.pem`), key, { mode: 0o600 })
  }
  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'deputy-redis-tls-'))
    const authority = await aCertificateAuthority()
    await writeFile(join(home, 'ca.pem'), authority.certificate)
    await write('server', await authority.issue('redis', { host: HOST }))
    await write('deputy', await authority.issue('deputy', { client: true }))
    await write('stranger', await (await aCertificateAuthority()).issue('deputy', { client: true }))
    ports.master = await freePort()
    ports.sentinel = await freePort()
    const lines = (port: number): string[] => [
      `tls-port ${port}`,
      `tls-ca-cert-file ${home}/ca.pem`,
      `tls-cert-file ${home}/server.pem`,
      `tls-key-file ${home}/server-key.pem`,
      `tls-client-cert-file ${home}/deputy.pem`,
      `tls-client-key-file ${home}/deputy-key.pem`,
      'tls-auth-clients yes',
      'tls-replication yes',
    ]
    master = await startRedis(['save ""', ...lines(ports.master)])
    sentinel = await startRedis(
      [...lines(ports.sentinel), `sentinel monitor mymaster ${HOST} ${ports.master} 1`],
      ['--sentinel'],
    )
    await askRedis(master.port, (client) =>
      client.call('ACL', 'SETUSER', 'deputy', 'on', '>at-the-server', '~*', '+@all'),
    )
    await askRedis(sentinel.port, async (client) => {
      const rules = ['+sentinel|get-master-addr-by-name', '+sentinel|sentinels']
      await client.call('ACL', 'SETUSER', 'watched', 'on', '>at-the-sentinel', ...rules)
      await client.call('ACL', 'SETUSER', 'default', 'off')
    })
  })
  afterAll(async () => {
    await sentinel?.close()
    await master?.close()
    await rm(home, { recursive: true, force: true })
  })

  /** What the daemon says of a Redis that is reached as the settings say, after it was asked. */
  const problemWith = async (redis: object): Promise<string | null> => {
    const settings = settingsSchema.parse({ cache: { redis } })
    const environment = { SERVER: 'at-the-server', SENTINEL: 'at-the-sentinel' }
    const options = await redisOptions(settings, { home, environment, clock: undefined!, random: undefined! })
    const shared = createSharedBytes(options!, { logger: silentLogger, monotonic: () => performance.now() })
    try {
      await expect.poll(() => shared.problem()).not.toBe('it is not connected yet')
      if (shared.problem() === null) {
        await shared.set('credential', 'x', new Uint8Array([7]), 5000)
        expect(await shared.get('credential', 'x')).toEqual(Buffer.from([7]))
      }
      return shared.problem()
    } finally {
      await shared.close()
    }
  }
  const single = (tls: unknown) => ({
    nodes: [`${HOST}:${ports.master}`],
    username: 'deputy',
    password: { env: 'SERVER' },
    tls,
  })
  const watched = (sentinelAccess: object | undefined) => ({
    ...single(BACK),
    mode: 'sentinel',
    nodes: [`${HOST}:${ports.sentinel}`],
    ...(sentinelAccess === undefined ? {} : { sentinel: sentinelAccess }),
  })

  it('shares its cache with a daemon that shows a certificate, and with no other', async () => {
    expect(await problemWith(single(BACK))).toBeNull()
    expect(await problemWith(single({ ca: 'ca.pem' }))).not.toBeNull()
    expect(await problemWith(single({ ...BACK, certificate: 'stranger.pem', key: 'stranger-key.pem' }))).not.toBeNull()
    expect(await problemWith(single({ ...BACK, key: 'stranger-key.pem' }))).toMatch(/key values mismatch/)
    expect(await problemWith(single({ certificate: BACK.certificate, key: BACK.key }))).toMatch(/certificate/)
  })

  it('is found by sentinels that ask for a login and a certificate themselves', async () => {
    const access = { username: 'watched', password: { env: 'SENTINEL' }, tls: BACK }
    expect(await problemWith(watched(access))).toBeNull()
    expect(await problemWith(watched({ ...access, password: { env: 'SERVER' } }))).not.toBeNull()
    expect(await problemWith(watched({ ...access, tls: { ca: 'ca.pem' } }))).not.toBeNull()
    expect(await problemWith(watched(undefined))).not.toBeNull()
    // A sentinel of an attacker gets no password.
    expect(await problemWith(watched({ ...access, tls: true }))).toMatch(/certificate|unreachable/i)
  })

  it('takes logins at the socket of a downstream, and rotates them', async () => {
    const to = (tls: { ca: string }) =>
      logIn(LOGIN, { downstream: 'cache', address: { host: HOST, port: ports.master, tls } }, { home, timeout: 3000 })
    const { socket } = await to(BACK)
    socket.destroy()
    await expect(to({ ca: 'ca.pem' })).rejects.toMatchObject({ code: 'database_unreachable' })
    const missing = await to({ ...BACK, ca: 'missing.pem' }).catch((error: unknown) => error)
    expect(missing).toMatchObject({ code: 'database_unreachable', facts: { problem: 'config_invalid' } })
    const rotator = createRedisRotator({ rotator: 'redis', host: HOST, port: ports.master, user: 'deputy' } as never, {
      admin: () => Promise.resolve(LOGIN),
      tls: () => readTlsFiles(home, BACK),
      random: undefined!,
      timeout: 3000,
    })
    await rotator.check!(LOGIN, LOGIN)
    expect(await rotator.login(LOGIN)).toBe('works')
  })

  it('is not asked with a key that others can read, nor with half a certificate', async () => {
    await writeFile(join(home, 'open-key.pem'), 'x', { mode: 0o644 })
    await expect(problemWith(single({ ...BACK, key: 'open-key.pem' }))).rejects.toMatchObject({
      code: 'config_invalid',
    })
    await expect(problemWith(single({ ...BACK, ca: 'missing.pem' }))).rejects.toMatchObject({ code: 'config_invalid' })
    for (const redis of [
      single({ certificate: 'deputy.pem' }),
      single({ ca: 'ca.pem', key: 'deputy-key.pem' }),
      single({}),
      { ...single(BACK), sentinel: {} },
    ])
      expect(settingsSchema.safeParse({ cache: { redis } }).success).toBe(false)
  })
})
