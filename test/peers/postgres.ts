/**
 * A real Postgres server of our own, in a temporary folder.
 * 1. `findPostgres()` says whether the machine has one; if not, loudly.
 * 2. `startPostgres()` makes a cluster with password authentication and gives fresh databases.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { chown, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Client } from 'pg'
import { freePort, stopProcess } from '../support/process.ts'

const run = promisify(execFile)
const ROOT = '/usr/lib/postgresql'

export interface PostgresServer {
  readonly port: number
  readonly password: string
  process: ChildProcess
  /** A database of its own, empty. @param template another database, of which it is a copy */
  createDatabase(template?: string): Promise<string>
  start(): Promise<void>
  /** Ends the server at once, as a power cut would. */
  kill(): Promise<void>
  /** Stops it, copies what it has, and starts it again. @returns what puts the copy in its place, as a restored backup would be: all since is lost */
  snapshot(): Promise<() => Promise<void>>
  close(): Promise<void>
}

export const findPostgres = (): string | undefined => {
  const versions = existsSync(ROOT)
    ? readdirSync(ROOT).filter((version) => existsSync(join(ROOT, version, 'bin/initdb')))
    : []
  const newest = versions.sort((a, b) => Number(b) - Number(a))[0]
  if (newest === undefined)
    process.stderr.write('\n*** SKIPPED: the tests that need Postgres. Install the package `postgresql`. ***\n\n')
  return newest === undefined ? undefined : join(ROOT, newest, 'bin')
}

/** Postgres does not run as root: then it runs as the user that its package brings. */
export const asOwner = async (): Promise<{ uid: number; gid: number } | undefined> => {
  if (process.getuid?.() !== 0) return undefined
  const [uid, gid] = await Promise.all(
    ['-u', '-g'].map(async (flag) => Number((await run('id', [flag, 'postgres'])).stdout)),
  )
  return { uid: uid!, gid: gid! }
}

/** A certificate for a name, signed by itself, as PEM. */
export const aCertificate = async (name: string): Promise<{ cert: string; key: string }> => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-certificate-'))
  try {
    await run('openssl', [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-keyout',
      join(folder, 'key'),
      '-out',
      join(folder, 'cert'),
      '-days',
      '1',
      '-subj',
      `/CN=${name}`,
      '-addext',
      `subjectAltName=DNS:${name}`,
    ])
    return { cert: await readFile(join(folder, 'cert'), 'utf8'), key: await readFile(join(folder, 'key'), 'utf8') }
  } finally {
    await rm(folder, { recursive: true })
  }
}

/**
 * No test cuts the power: what a killed Postgres has written, the kernel still has. So the server need not wait for the disk,
 * and a database of its own for each test is cheap (https://www.postgresql.org/docs/current/non-durability.html).
 */
const FOR_TESTS = ['fsync=off', 'full_page_writes=off', 'autovacuum=off', 'jit=off']

export const giveTo = (owner: { uid: number; gid: number } | undefined, path: string): Promise<unknown> =>
  owner === undefined ? Promise.resolve() : run('chown', ['-R', `${owner.uid}:${owner.gid}`, path])

/** An initialised data folder and the password of its superuser: made once, copied for each server. */
export const findTemplate = async (bin: string): Promise<{ data: string; password: string }> => {
  const cache = join(import.meta.dirname, '../../node_modules/.cache')
  const template = join(cache, `postgres${bin.replaceAll('/', '-')}`)
  if (!existsSync(template)) {
    const owner = await asOwner()
    const folder = await mkdtemp(join(tmpdir(), 'deputy-postgres-'))
    try {
      const [data, passwordFile] = [join(folder, 'data'), join(folder, 'password')]
      await writeFile(passwordFile, randomUUID(), { mode: 0o600 })
      await giveTo(owner, folder)
      const flags = ['--auth=scram-sha-256', `--pwfile=${passwordFile}`, '-E', 'UTF8', '--locale=C', '--no-sync']
      await run(join(bin, 'initdb'), ['-D', data, '-U', 'deputy', ...flags], { ...owner })
      await mkdir(cache, { recursive: true })
      const copy = await mkdtemp(join(cache, 'postgres-'))
      await run('cp', ['-a', `${folder}/.`, copy])
      // Another file's tests may have made it meanwhile: then that one is used.
      await rename(copy, template).catch(() => rm(copy, { recursive: true }))
    } finally {
      await rm(folder, { recursive: true })
    }
  }
  return { data: join(template, 'data'), password: await readFile(join(template, 'password'), 'utf8') }
}

/**
 * @param tls a certificate with which it speaks TLS to whoever wants it
 * @param settings of postgresql.conf, as `name=value`; without any it waits for the disk, as a benchmark needs it
 */
export const startPostgres = async (
  bin: string,
  tls?: { cert: string; key: string },
  settings: readonly string[] = FOR_TESTS,
): Promise<PostgresServer> => {
  const owner = await asOwner()
  const template = await findTemplate(bin)
  const { password } = template
  const folder = await mkdtemp(join(tmpdir(), 'deputy-postgres-'))
  const data = join(folder, 'data')
  await run('cp', ['-a', template.data, data])
  await giveTo(owner, folder)
  const port = await freePort()
  if (tls !== undefined)
    for (const [name, text] of [
      ['server.crt', tls.cert],
      ['server.key', tls.key],
    ] as const) {
      await writeFile(join(data, name), text, { mode: 0o600 })
      if (owner !== undefined) await chown(join(data, name), owner.uid, owner.gid)
    }
  const connect = (database: string) => new Client({ host: '127.0.0.1', port, user: 'deputy', password, database })
  const server: PostgresServer = {
    port,
    password,
    process: undefined as unknown as ChildProcess,
    async start() {
      server.process = spawn(
        join(bin, 'postgres'),
        [
          '-D',
          data,
          '-p',
          String(port),
          '-c',
          'listen_addresses=127.0.0.1',
          '-c',
          `unix_socket_directories=${folder}`,
          '-c',
          'max_connections=200',
          ...[...settings, ...(tls === undefined ? [] : ['ssl=on'])].flatMap((setting) => ['-c', setting]),
        ],
        { stdio: 'ignore', ...owner },
      )
      for (let attempt = 0; ; attempt += 1) {
        const client = connect('postgres')
        try {
          await client.connect()
          await client.end()
          return
        } catch (error) {
          if (attempt === 1200) throw error
          await new Promise((resolve) => {
            setTimeout(resolve, 50)
          })
        }
      }
    },
    async createDatabase(template) {
      const name = `test_${randomUUID().replaceAll('-', '')}`
      const client = connect('postgres')
      await client.connect()
      await client.query(`create database ${name}${template === undefined ? '' : ` template ${template}`}`)
      await client.end()
      return name
    },
    // SIGQUIT: immediate shutdown, with recovery at the next start (https://www.postgresql.org/docs/current/server-shutdown.html).
    kill: () => stopProcess(server.process, 'SIGQUIT'),
    async snapshot() {
      const copy = join(folder, 'copy')
      await server.kill()
      await rm(copy, { recursive: true, force: true })
      await run('cp', ['-a', data, copy])
      await server.start()
      return async () => {
        await server.kill()
        await rm(data, { recursive: true })
        await run('cp', ['-a', copy, data])
        await server.start()
      }
    },
    async close() {
      await stopProcess(server.process, 'SIGQUIT')
      await rm(folder, { recursive: true, force: true })
    },
  }
  await server.start().catch(async (error: unknown) => {
    await server.close()
    throw error
  })
  return server
}
