import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import { DummyDriver, Kysely, SqliteAdapter, SqliteIntrospector, SqliteQueryCompiler } from 'kysely'
import { describe, expect, it, onTestFinished } from 'vitest'
import { leaseStore } from '../../src/foundation/store/queries/leases.ts'
import type { Tables } from '../../src/foundation/store/schema.ts'
import { openSqliteStore } from '../../src/foundation/store/sqlite/open.ts'
import { anAuditRow } from '../conformance/audit-row.ts'
import { BEFORE_LEASE_QUESTIONS, expectOlderLeases } from '../conformance/older-leases.ts'
import { describeAuditStore } from '../conformance/audit-store.ts'
import { describeStore } from '../conformance/store.ts'

const aFolder = async (): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-store-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  return folder
}

describeStore('sqlite', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-store-'))
  return {
    open: () => openSqliteStore({ path: join(folder, 'deputy.db') }),
    dispose: () => rm(folder, { recursive: true, force: true }),
  }
})

describeAuditStore('sqlite', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-store-'))
  return {
    installation: 'an-installation',
    async open() {
      const store = await openSqliteStore({ path: join(folder, 'deputy.db') })
      return { audit: store.audit, close: () => store.close() }
    },
    dispose: () => rm(folder, { recursive: true, force: true }),
  }
})

/** A file system of a few pages, or undefined where this user may not mount one. */
const tinyDisk = async (): Promise<string | undefined> => {
  const folder = await aFolder()
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder]).status !== 0) return undefined
  onTestFinished(() => {
    spawnSync('umount', [folder])
  })
  return folder
}

describe('the embedded store', () => {
  it('finds the lease of an owner by its index, which holds none that is ending', async () => {
    const path = join(await aFolder(), 'deputy.db')
    await (await openSqliteStore({ path })).close()
    const asked: { sql: string; parameters: readonly unknown[] }[] = []
    const dialect = {
      createAdapter: () => new SqliteAdapter(),
      createDriver: () => new DummyDriver(),
      createIntrospector: (kysely: Kysely<unknown>) => new SqliteIntrospector(kysely),
      createQueryCompiler: () => new SqliteQueryCompiler(),
    }
    const recorder = new Kysely<Tables>({
      dialect,
      log({ query: { sql, parameters } }) {
        asked.push({ sql, parameters })
      },
    })
    await leaseStore(recorder, () => Promise.resolve()).find({
      tenant: 'acme',
      user: 'alice',
      server: 'notes',
      downstream: 'orders',
      backend: 'vault',
      role: 'reader',
    })
    const database = new DatabaseSync(path)
    const plan = database.prepare(`explain query plan ${asked[0]!.sql}`).all(...(asked[0]!.parameters as string[]))
    database.close()
    expect(plan).toMatchObject([
      { detail: expect.stringMatching(/^SEARCH leases USING INDEX leases_owner /) as string },
    ])
  })

  it('makes its files readable for its own user alone', async () => {
    const folder = await aFolder()
    const store = await openSqliteStore({ path: join(folder, 'deputy.db') })
    onTestFinished(() => store.close())
    await store.audit.append([anAuditRow(1)])
    for (const file of await readdir(folder))
      expect([file, (await stat(join(folder, file))).mode & 0o777]).toEqual([file, 0o600])
  })

  it('refuses a database that a newer Deputy has written, and leaves it as it is', async () => {
    const path = join(await aFolder(), 'deputy.db')
    await (await openSqliteStore({ path })).close()
    const database = new DatabaseSync(path)
    database.exec('insert into schema_version (version) values (999)')
    database.close()
    await expect(openSqliteStore({ path })).rejects.toMatchObject({
      code: 'store_unavailable',
      message: expect.stringContaining('newer Deputy') as string,
    })
  })

  it('opens one with leases of before an owner could have several, and goes on with them', async () => {
    const path = join(await aFolder(), 'deputy.db')
    await expectOlderLeases(
      () => openSqliteStore({ path }),
      async () => {
        const database = new DatabaseSync(path)
        database.exec(BEFORE_LEASE_QUESTIONS)
        database.close()
      },
    )
  })

  it('refuses a file that is no database', async () => {
    const path = join(await aFolder(), 'deputy.db')
    await writeFile(path, 'this is no database '.repeat(500))
    await expect(openSqliteStore({ path })).rejects.toMatchObject({ code: 'store_unavailable' })
  })

  it('refuses a second holder of the same file', async () => {
    const path = join(await aFolder(), 'deputy.db')
    const store = await openSqliteStore({ path })
    onTestFinished(() => store.close())
    await expect(openSqliteStore({ path })).rejects.toMatchObject({ code: 'start_failed' })
    const child = spawn(process.execPath, [fileURLToPath(new URL('./writer.ts', import.meta.url)), path], {
      stdio: 'ignore',
    })
    onTestFinished(() => {
      child.kill('SIGKILL')
    })
    expect(await once(child, 'exit')).toEqual([1, null])
  })

  it('refuses a second daemon in another process, and lets it in when the first is killed', async () => {
    const path = join(await aFolder(), 'deputy.db')
    const child = spawn(process.execPath, [fileURLToPath(new URL('./writer.ts', import.meta.url)), path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    onTestFinished(() => {
      child.kill('SIGKILL')
    })
    await once(child.stdout, 'data')
    await expect(openSqliteStore({ path })).rejects.toMatchObject({
      code: 'start_failed',
      message: expect.stringContaining('in use by another daemon') as string,
    })
    child.kill('SIGKILL')
    await once(child, 'exit')
    const store = await openSqliteStore({ path })
    await store.close()
  })

  it('answers every call within its deadline while the database is locked, and none is half done', async () => {
    const path = join(await aFolder(), 'deputy.db')
    const store = await openSqliteStore({ path, deadline: 200 })
    onTestFinished(() => store.close())
    const other = new DatabaseSync(path)
    other.exec('BEGIN IMMEDIATE')
    const began = performance.now()
    await expect(store.audit.append([anAuditRow(1), anAuditRow(2)])).rejects.toMatchObject({
      code: 'store_unavailable',
      facts: { problem: 'no answer within 200 ms' },
    })
    expect(performance.now() - began).toBeLessThan(1000)
    other.exec('ROLLBACK')
    other.close()
    await expect
      .poll(async () =>
        store.audit.head().then(
          (head) => head?.seq,
          () => 'late',
        ),
      )
      .toBe(2)
  })

  it('threat 29: lets nobody who appends wait for a search through the whole audit log', async () => {
    const store = await openSqliteStore({ path: join(await aFolder(), 'deputy.db') })
    onTestFinished(() => store.close())
    const body = 'x'.repeat(500)
    await store.audit.append(Array.from({ length: 60_000 }, (_, index) => anAuditRow(index + 1, { body })))
    await store.audit.query({}, { limit: 1 })
    const order: string[] = []
    const searches = Array.from({ length: 25 }, () =>
      store.audit.query({ user: 'nobody' }, { limit: 1 }).then((rows) => {
        order.push('searched')
        expect(rows).toEqual([])
      }),
    )
    await store.audit.append([anAuditRow(60_001)]).then(() => {
      order.push('appended')
    })
    await Promise.all(searches)
    // In one queue it would come after all of them.
    expect(order.indexOf('appended')).toBeLessThan(24)
  })

  it('loses no acknowledged row when its process is killed', async () => {
    const path = join(await aFolder(), 'deputy.db')
    const child = spawn(process.execPath, [fileURLToPath(new URL('./writer.ts', import.meta.url)), path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let acknowledged = 0
    for await (const line of createInterface(child.stdout)) {
      acknowledged = Number(line)
      if (acknowledged === 200) child.kill('SIGKILL')
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    expect(acknowledged).toBeGreaterThanOrEqual(200)
    const store = await openSqliteStore({ path })
    onTestFinished(() => store.close())
    const rows = await store.audit.query({}, { limit: 1_000_000 })
    expect(rows.length).toBeGreaterThanOrEqual(acknowledged)
    expect(rows).toEqual(rows.map((_, index) => anAuditRow(index + 1)))
  })

  it('threat 29: refuses while the disk is full, keeps every acknowledged row and works again when there is room', async ({
    skip,
  }) => {
    const folder = await tinyDisk()
    if (folder === undefined) {
      skip('only root may mount a small file system')
      return
    }
    const store = await openSqliteStore({ path: join(folder, 'deputy.db') })
    onTestFinished(() => store.close())
    const ballast = join(folder, 'ballast')
    await writeFile(ballast, Buffer.alloc(200_000))
    let seq = 0
    let refusal: unknown
    while (refusal === undefined && seq < 5000) {
      try {
        await store.audit.append([anAuditRow(seq + 1, { body: 'x'.repeat(4000) }), anAuditRow(seq + 2)])
        seq += 2
      } catch (error) {
        refusal = error
      }
    }
    expect(refusal).toMatchObject({ code: 'store_unavailable' })
    expect(await store.audit.head()).toMatchObject({ seq })
    await rm(ballast)
    await store.audit.append([anAuditRow(seq + 1), anAuditRow(seq + 2)])
    expect(await store.audit.query({}, { limit: 10_000 })).toHaveLength(seq + 2)
  })
})
