import { chmod, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { checkPrivateFiles, privateFilesIn } from '../../src/config/private-files.ts'
import { settingsSchema } from '../../src/config/settings.ts'
import { postgresOptions, type ReadTls } from '../../src/daemon/foundation/foundation.ts'
import { RenewedTls } from '../../src/foundation/files/renewed-tls.ts'
import { migratePostgres, openPostgresStore } from '../../src/foundation/store/postgres/open.ts'
import { findPostgres, startPostgres, type PostgresServer } from '../peers/postgres.ts'
import { aCertificateAuthority, type Issued, type TestAuthority } from '../support/certificates.ts'
import { asAdmin } from '../support/postgres-logins.ts'

const HOST = '127.0.0.1'
const FILES = { ca: 'ca.pem', certificate: 'node.pem', key: 'node-key.pem' }
/** `node` has no password: only its certificate lets it in. `checked` needs both. */
const RULES = `
hostnossl all deputy ${HOST}/32 scram-sha-256
hostssl all node ${HOST}/32 cert
hostssl all checked ${HOST}/32 scram-sha-256 clientcert=verify-full
`

const bin = findPostgres()
describe.skipIf(bin === undefined)('a Postgres that asks the daemon for a certificate', () => {
  let home: string
  let server: PostgresServer
  let database: string
  let authority: TestAuthority
  const write = async (name: string, { certificate, key }: Issued): Promise<void> => {
    await writeFile(join(home, `${name}.pem`), certificate)
    await writeFile(join(home, `${name}-key.pem`), key, { mode: 0o600 })
  }
  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'deputy-postgres-tls-'))
    // The server runs as another user.
    await chmod(home, 0o755)
    authority = await aCertificateAuthority()
    await writeFile(join(home, 'ca.pem'), authority.certificate)
    await writeFile(join(home, 'rules'), RULES)
    for (const name of ['node', 'checked', 'other']) await write(name, await authority.issue(name, { client: true }))
    await write('stranger', await (await aCertificateAuthority()).issue('node', { client: true }))
    const { certificate: cert, key } = await authority.issue('postgres', { host: HOST })
    server = await startPostgres(bin!, { cert, key }, [
      'fsync=off',
      `ssl_ca_file=${join(home, 'ca.pem')}`,
      `hba_file=${join(home, 'rules')}`,
    ])
    database = await server.createDatabase()
    await asAdmin(
      server,
      database,
      'create role node login',
      "create role checked login password 'its-password'",
      `alter database ${database} owner to node`,
    )
    await migratePostgres(await optionsFor(FILES))
  })
  afterAll(async () => {
    await server?.close()
    await rm(home, { recursive: true, force: true })
  })

  const optionsFor = async (tls: object | boolean, more: object = {}, readTls?: ReadTls) => {
    const postgres = { host: HOST, port: server.port, database, user: 'node', tls, ...more }
    const settings = settingsSchema.parse({ store: { postgres } })
    const around = { home, environment: { PASSWORD: 'its-password' }, clock: undefined!, random: undefined! }
    return (await postgresOptions(settings, around, readTls))!
  }
  const attempt = async (tls: object | boolean, more?: object): Promise<string> => {
    try {
      const store = await openPostgresStore({ ...(await optionsFor(tls, more)), node: 'one' })
      await store.close()
      return 'opened'
    } catch (error) {
      const { code, message } = error as { code: string; message: string }
      return `${code}: ${message}`
    }
  }

  it('lets in a daemon that presents the certificate of its role, and no other', async () => {
    expect(await attempt(FILES)).toBe('opened')
    expect(await attempt({ ca: 'ca.pem' })).toMatch(/^store_unavailable: .*requires a valid client certificate/)
    expect(await attempt({ ...FILES, certificate: 'other.pem', key: 'other-key.pem' })).toMatch(
      /^store_unavailable: .*certificate authentication failed for user "node"/,
    )
    expect(await attempt({ ...FILES, certificate: 'stranger.pem', key: 'stranger-key.pem' })).toMatch(
      /^store_unavailable: /,
    )
    expect(await attempt({ ...FILES, key: 'other-key.pem' })).toMatch(/^store_unavailable: .*do not belong together/)
    // The server has to prove itself all the same.
    expect(await attempt({ certificate: FILES.certificate, key: FILES.key })).toMatch(
      /^store_unavailable: .*SELF_SIGNED/,
    )
  })

  it('takes a password as well where pg_hba.conf asks for both', async () => {
    const checked = { ...FILES, certificate: 'checked.pem', key: 'checked-key.pem' }
    const login = { user: 'checked', password: { env: 'PASSWORD' } }
    await asAdmin(
      server,
      database,
      'grant create, usage on schema public to checked',
      'grant all on all tables in schema public to checked',
    )
    expect(await attempt(checked, login)).toBe('opened')
    expect(await attempt(FILES, login)).toMatch(/^store_unavailable: .*authentication failed for user "checked"/)
    expect(await attempt(checked, { user: 'checked' })).toMatch(/^store_unavailable: .*password/)
  })

  it('is not reached with a key that others can read, nor with half a pair', async () => {
    await writeFile(join(home, 'open-key.pem'), 'x', { mode: 0o644 })
    expect(await attempt({ ...FILES, key: 'open-key.pem' })).toMatch(/^config_invalid: .*chmod 600/)
    expect(await attempt({ ...FILES, certificate: 'absent.pem' })).toMatch(/^config_invalid: .*ENOENT/)
    const located = { value: { tls: { ...FILES, key: 'open-key.pem' } }, file: 'deputy.yaml', lineOf: () => 7 }
    expect(await checkPrivateFiles(privateFilesIn(home, [located]))).toMatchObject({
      problems: [
        { file: 'deputy.yaml', line: 7, message: expect.stringMatching(/open-key.pem has mode 0644/) as string },
      ],
    })
    for (const tls of [{ certificate: 'node.pem' }, { ca: 'ca.pem', key: 'node-key.pem' }, {}])
      expect(settingsSchema.safeParse({ store: { postgres: { host: HOST, tls } } }).success).toBe(false)
  })

  it('sees a renewed certificate at the next connection, and none while half of the pair is written', async () => {
    const log: string[] = []
    const note = (_fields: object, message: string): void => void log.push(message)
    const logger = { debug: note, info: note, warn: note, error: note }
    await write('renewed', await authority.issue('node', { client: true }))
    const files = { ...FILES, certificate: 'renewed.pem', key: 'renewed-key.pem' }
    const tls = await RenewedTls.open({ home, files, logger }, 10)
    onTestFinished(() => {
      tls.close()
    })
    const store = await openPostgresStore({ ...(await optionsFor(files, {}, () => Promise.resolve(tls))), node: 'one' })
    onTestFinished(() => store.close())
    const replace = async (name: string, text: string): Promise<void> => {
      await writeFile(join(home, 'next'), text, { mode: 0o600 })
      await rename(join(home, 'next'), join(home, name))
    }
    /** Of the certificate of a connection that begins now. */
    const serial = async (): Promise<string> => {
      await asAdmin(server, database, "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'node'")
      await expect.poll(() => store.ping().then(() => 'up', String)).toBe('up')
      const [row] = await asAdmin(
        server,
        database,
        "select client_serial::text as serial from pg_stat_ssl join pg_stat_activity using (pid) where usename = 'node'",
      )
      return String(row!['serial'])
    }
    const first = await serial()
    const { certificate, key } = await authority.issue('node', { client: true })
    await replace('renewed.pem', certificate)
    await expect.poll(() => log).toHaveLength(1)
    expect(log[0]).toMatch(/not renewed/)
    expect(await serial()).toBe(first)
    await replace('renewed-key.pem', key)
    await expect.poll(() => log).toHaveLength(2)
    expect(Number(await serial())).toBeGreaterThan(Number(first))
  })
})
