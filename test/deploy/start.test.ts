/** Each settings file that is shipped starts a real daemon, with its paths below a folder of the test and its ports free ones. */
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse, parseAllDocuments, stringify } from 'yaml'
import { createSystemRandom } from '../../src/clock.ts'
import { newKeyText } from '../../src/foundation/crypto/key-encryption-key.ts'
import { settingsSchema } from '../../src/config/settings.ts'
import { migratePostgres } from '../../src/foundation/store/postgres/open.ts'
import { findPostgres, startPostgres, type PostgresServer } from '../peers/postgres.ts'
import { askRedis, findRedis, startRedis, type RedisServer } from '../peers/redis.ts'
import { ask } from '../support/daemon.ts'
import { CLI, freePort, runCli, startProcess, stopProcess } from '../support/process.ts'

const DEPLOY = resolve(import.meta.dirname, '../../deploy')
const KEK = newKeyText(createSystemRandom())

interface Place {
  readonly folder: string
  readonly home: string
  /** A path of the shipped files, below the folder. */
  at(path: string): string
}

interface ShippedSettings {
  listen: Record<string, unknown>
  store?: { postgres: Record<string, unknown> }
  cache?: { redis: Record<string, unknown> }
}

const shippedText = async (file: string): Promise<string> => {
  const text = await readFile(join(DEPLOY, file), 'utf8')
  if (!file.startsWith('kubernetes/')) return text
  const documents = parseAllDocuments(text).map(
    (document) => document.toJS() as { kind: string; data?: Record<string, string> },
  )
  return documents.find(({ kind }) => kind === 'ConfigMap')!.data!['deputy.yaml']!
}

/** A folder as the steps of docs/deploy.md leave the machine: the configuration has no state folder, and no key is in it. */
const aPlace = async (): Promise<Place> => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-shipped-'))
  const at = (path: string): string => join(folder, path)
  const home = at('/etc/deputy')
  await runCli(home, ['init'])
  await rm(join(home, 'state'), { recursive: true })
  for (const [path, mode] of [
    ['/var/lib/deputy', 0o700],
    ['/var/lib/deputy/state', 0o700],
    ['/var/lib/deputy-keys', 0o700],
    ['/run/deputy', 0o711],
    ['/run/secrets', 0o755],
  ] as const) {
    await mkdir(at(path), { recursive: true })
    await chmod(at(path), mode)
  }
  for (const path of ['/var/lib/deputy/kek', '/run/secrets/deputy_kek']) await writeFile(at(path), KEK, { mode: 0o600 })
  return { folder, home, at }
}

const inPlace = async (file: string, place: Place): Promise<ShippedSettings> => {
  const text = (await shippedText(file)).replaceAll(/\/(?:var\/lib|run|etc)\/(?:deputy|secrets)[\w./-]*/g, (path) =>
    place.at(path),
  )
  const settings = parse(text) as ShippedSettings
  Object.assign(settings.listen, { connect: `127.0.0.1:${await freePort()}`, socket_group: process.getgid!() })
  return settings
}

/** Starts a daemon, looks at it, and ends it. */
const started = async (place: Place, settings: object, environment: NodeJS.ProcessEnv): Promise<void> => {
  await writeFile(join(place.home, 'deputy.yaml'), stringify(settings))
  const listed = async (): Promise<string[]> => (await readdir(place.home, { recursive: true })).sort()
  const before = await listed()
  const child = await startProcess([CLI, 'serve', '--home', place.home], /deputy is ready/, {
    ...process.env,
    ...environment,
  })
  try {
    const socketPath = place.at('/run/deputy/deputy.sock')
    expect((await ask({ socketPath }, { path: '/readyz' })).status).toBe(200)
    expect((await stat(socketPath)).mode & 0o777).toBe(0o660)
    // The configuration folder is read-only in every shipped form.
    expect(await listed()).toEqual(before)
  } finally {
    await stopProcess(child)
  }
}

describe('fault 26: the shipped settings', () => {
  test.each(['systemd/deputy.yaml', 'docker/deputy.yaml'])('%s start a daemon', async (file) => {
    const place = await aPlace()
    try {
      await started(place, await inPlace(file, place), {})
      expect(await readdir(place.at('/var/lib/deputy/keys'))).toContain('_deputy.key')
    } finally {
      await rm(place.folder, { recursive: true })
    }
  })

  describe.skipIf(findPostgres() === undefined || !findRedis())('for several nodes', () => {
    let postgres: PostgresServer
    let redis: RedisServer
    beforeAll(async () => {
      postgres = await startPostgres(findPostgres()!)
      redis = await startRedis()
      await askRedis(redis.port, (client) => client.config('SET', 'requirepass', 'secret'))
    })
    afterAll(async () => {
      await redis?.close()
      await postgres?.close()
    })

    test.each([
      ['docker/cluster.deputy.yaml', '/var/lib/deputy-keys'],
      ['kubernetes/common.yaml', '/var/lib/deputy-keys/keys'],
    ])('%s start a daemon', async (file, keys) => {
      const place = await aPlace()
      try {
        const settings = await inPlace(file, place)
        const database = await postgres.createDatabase()
        Object.assign(settings.store!.postgres, { host: '127.0.0.1', port: postgres.port, database, tls: false })
        Object.assign(settings.cache!.redis, { nodes: [`127.0.0.1:${redis.port}`], tls: false })
        await writeFile(place.at('/run/secrets/postgres_password'), postgres.password, { mode: 0o600 })
        await writeFile(place.at('/run/secrets/redis_password'), 'secret', { mode: 0o600 })
        const environment = {
          DEPUTY_NODE: 'a',
          DEPUTY_KEK: KEK,
          DEPUTY_POSTGRES_PASSWORD: postgres.password,
          DEPUTY_REDIS_PASSWORD: 'secret',
        }
        const { store } = settingsSchema.parse(settings)
        if (store === 'embedded') throw new Error(`${file} names no Postgres`)
        await migratePostgres({ ...store.postgres, password: postgres.password, tls: false })
        await started(place, settings, environment)
        expect(await readdir(place.at(keys))).toContain('_deputy.key')
      } finally {
        await rm(place.folder, { recursive: true })
      }
    })
  })

  test('keys that an earlier version left in the home are not passed over', async () => {
    const place = await aPlace()
    try {
      await writeFile(join(place.home, 'deputy.yaml'), stringify(await inPlace('systemd/deputy.yaml', place)))
      await mkdir(join(place.home, 'state/keys'), { recursive: true, mode: 0o700 })
      const { code, err } = await runCli(place.home, ['serve'])
      expect({ code, err }).toEqual({ code: 3, err: expect.stringContaining('write keys: state/keys in deputy.yaml') })
    } finally {
      await rm(place.folder, { recursive: true })
    }
  })
})
