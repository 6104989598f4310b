/** Postgres behind a real PgBouncer, on a server whose default is not to wait for the disk. */
import { existsSync } from 'node:fs'
import { chown, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { migratePostgres, openPostgresStore } from '../../src/foundation/store/postgres/open.ts'
import { createPool, type PostgresOptions } from '../../src/foundation/store/postgres/pool.ts'
import { findPostgres, startPostgres, type PostgresServer } from '../peers/postgres.ts'
import { freePort, stopProcess } from '../support/process.ts'

const PGBOUNCER = ['/usr/sbin/pgbouncer', '/usr/bin/pgbouncer'].find((path) => existsSync(path))
if (PGBOUNCER === undefined)
  process.stderr.write('\n*** SKIPPED: the tests behind a pooler. Install the package `pgbouncer`. ***\n\n')

const MODES = ['session', 'transaction', 'statement'] as const

describe.skipIf(PGBOUNCER === undefined || findPostgres() === undefined)('fault 11: behind PgBouncer', () => {
  let server: PostgresServer
  let pooler: ChildProcess
  let folder: string
  let options: (mode: (typeof MODES)[number]) => PostgresOptions
  beforeAll(async () => {
    server = await startPostgres(findPostgres()!)
    const database = await server.createDatabase()
    const direct = {
      host: '127.0.0.1',
      database,
      user: 'deputy',
      password: server.password,
      tls: false,
      deadline: 2000,
    }
    await migratePostgres({ ...direct, port: server.port, pool: 2 })
    const admin = new Client({ ...direct, port: server.port, ssl: false })
    await admin.connect()
    await admin.query(`alter database "${database}" set synchronous_commit = off`)
    await admin.end()
    folder = await mkdtemp(join(tmpdir(), 'deputy-pgbouncer-'))
    const port = await freePort()
    await writeFile(join(folder, 'users'), `"deputy" "${server.password}"\n`)
    await writeFile(
      join(folder, 'pgbouncer.ini'),
      [
        '[databases]',
        ...MODES.map(
          (mode) => `${mode} = host=127.0.0.1 port=${server.port} dbname=${database} pool_mode=${mode} pool_size=10`,
        ),
        '[pgbouncer]',
        'listen_addr = 127.0.0.1',
        `listen_port = ${port}`,
        'unix_socket_dir =',
        'auth_type = trust',
        `auth_file = ${join(folder, 'users')}`,
        '',
      ].join('\n'),
    )
    // It does not run as root.
    const owner = process.getuid?.() === 0 ? 65_534 : undefined
    if (owner !== undefined)
      for (const path of [folder, join(folder, 'users'), join(folder, 'pgbouncer.ini')]) await chown(path, owner, owner)
    pooler = spawn(PGBOUNCER!, [join(folder, 'pgbouncer.ini')], {
      stdio: ['ignore', 'ignore', 'pipe'],
      ...(owner === undefined ? {} : { uid: owner, gid: owner }),
    })
    await new Promise<void>((resolve, reject) => {
      let output = ''
      pooler.once('exit', () => {
        reject(new Error(output))
      })
      pooler.stderr!.on('data', (chunk: Buffer) => {
        output += chunk.toString()
        if (output.includes('process up')) resolve()
      })
    })
    options = (mode) => ({ ...direct, port, database: mode, pool: 4 })
  })
  afterAll(async () => {
    if (pooler !== undefined) await stopProcess(pooler, 'SIGKILL')
    await server?.close()
    if (folder !== undefined) await rm(folder, { recursive: true, force: true })
  })

  it('promise 3: in session mode every connection waits for the disk, whatever the default of the database', async () => {
    const store = await openPostgresStore({ ...options('session'), node: 'one' })
    await store.revocations.add({
      id: 'r',
      scope: { kind: 'everything' },
      epoch: 1,
      by: 'test',
      reason: null,
      forgetAt: null,
    })
    await store.close()
    const pool = createPool(options('session'))
    try {
      const clients = await Promise.all(Array.from({ length: 4 }, () => pool.connect()))
      for (const client of clients) {
        const { rows } = await client.query<{ value: string }>("select current_setting('synchronous_commit') as value")
        expect(rows[0]?.value).toBe('on')
        client.release()
      }
    } finally {
      await pool.end()
    }
  })

  it('promise 3: in transaction and statement mode the store does not open, and says why', async () => {
    for (const mode of ['transaction', 'statement'] as const)
      await expect(openPostgresStore({ ...options(mode), node: 'one' })).rejects.toMatchObject({
        code: 'config_invalid',
        message: expect.stringContaining('session mode') as string,
      })
  })
})
