/**
 * A real Postgres server of our own, in a temporary folder.
 * 1. `findPostgres()` says whether the machine has one; if not, loudly.
 * 2. `startPostgres()` makes a cluster with password authentication and gives fresh databases.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync, readdirSync } from 'node:fs'
import { chown, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
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
  /** A database of its own, empty. */
  createDatabase(): Promise<string>
  start(): Promise<void>
  /** Ends the server at once, as a power cut would. */
  kill(): Promise<void>
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
const asOwner = async (): Promise<{ uid: number; gid: number } | undefined> => {
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

/** @param tls a certificate with which it speaks TLS to whoever wants it */
export const startPostgres = async (bin: string, tls?: { cert: string; key: string }): Promise<PostgresServer> => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-postgres-'))
  const owner = await asOwner()
  const password = randomUUID()
  const passwordFile = join(folder, 'password')
  await writeFile(passwordFile, password)
  if (owner !== undefined) for (const path of [folder, passwordFile]) await chown(path, owner.uid, owner.gid)
  const data = join(folder, 'data')
  await run(
    join(bin, 'initdb'),
    [
      '-D',
      data,
      '-U',
      'deputy',
      '--auth=scram-sha-256',
      `--pwfile=${passwordFile}`,
      '-E',
      'UTF8',
      '--locale=C',
      '--no-sync',
    ],
    { ...owner },
  )
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
          ...(tls === undefined ? [] : ['-c', 'ssl=on']),
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
          if (attempt === 200) throw error
          await new Promise((resolve) => {
            setTimeout(resolve, 50)
          })
        }
      }
    },
    async createDatabase() {
      const name = `test_${randomUUID().replaceAll('-', '')}`
      const client = connect('postgres')
      await client.connect()
      await client.query(`create database ${name}`)
      await client.end()
      return name
    },
    // SIGQUIT: immediate shutdown, with recovery at the next start (https://www.postgresql.org/docs/current/server-shutdown.html).
    kill: () => stopProcess(server.process, 'SIGQUIT'),
    async close() {
      await stopProcess(server.process, 'SIGQUIT')
      await rm(folder, { recursive: true, force: true })
    },
  }
  await server.start()
  return server
}
