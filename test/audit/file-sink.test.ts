import { spawn, spawnSync } from 'node:child_process'
import { appendFile, mkdir, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'
import { createFileSink } from '../../src/foundation/audit/sinks/file-sink.ts'
import { openSqliteStore } from '../../src/foundation/store/sqlite/open.ts'
import { aFolder, aLog, append, aRecord, aSink, aStore, check, linesOf, upTo } from '../support/audit.ts'

describe('an audit file', () => {
  it('promise 3: a record is in the store and in the file before append resolves', async () => {
    const [store, path] = [await aStore(), join(await aFolder(), 'audit.jsonl')]
    const log = await aLog(store, { sinks: [createFileSink(path)] })
    onTestFinished(() => log.close())
    await log.append(aRecord('one'))
    expect(await store.query({ id: 'one' }, { limit: 1 })).toHaveLength(1)
    expect(await linesOf(path)).toEqual([1])
    expect((await stat(path)).mode & 0o777).toBe(0o600)
  })

  it('threat 29: makes a deleted or rotated file anew', async () => {
    const path = join(await aFolder(), 'audit.jsonl')
    const log = await aLog(await aStore(), { sinks: [createFileSink(path)] })
    onTestFinished(() => log.close())
    await log.append(aRecord('a'))
    await rename(path, `${path}.1`)
    await log.append(aRecord('b'))
    await rm(path)
    await log.append(aRecord('c'))
    expect(await linesOf(`${path}.1`)).toEqual([1])
    expect(await linesOf(path)).toEqual([3])
  })

  it('threat 29: refuses when its file was cut short', async () => {
    const path = join(await aFolder(), 'audit.jsonl')
    const log = await aLog(await aStore(), { sinks: [createFileSink(path)] })
    onTestFinished(() => log.close())
    await append(log, 3)
    await truncate(path, 10)
    await expect(log.append(aRecord('b'))).rejects.toMatchObject({ code: 'audit_unavailable' })
  })

  it('threat 29: writes to its file again when the folder that had gone is back', async () => {
    const folder = join(await aFolder(), 'logs')
    const path = join(folder, 'audit.jsonl')
    await mkdir(folder)
    const log = await aLog(await aStore(), { sinks: [createFileSink(path)] })
    onTestFinished(() => log.close())
    await log.append(aRecord('a'))
    await rm(folder, { recursive: true })
    await expect(log.append(aRecord('b'))).rejects.toMatchObject({ code: 'audit_unavailable' })
    await mkdir(folder)
    await log.append(aRecord('c'))
    // The record that says that b was not confirmed may follow by now.
    expect((await linesOf(path)).slice(0, 2)).toEqual([2, 3])
  })

  it('leaves no gap in its file when the daemon ended between the store and the file', async () => {
    const [store, path] = [await aStore(), join(await aFolder(), 'audit.jsonl')]
    const first = await aLog(store, { sinks: [createFileSink(path)] })
    await first.append(aRecord('a'))
    await first.close()
    const cut = await aLog(store, { sinks: [aSink(() => Promise.reject(new Error('the process ends here')))] })
    await expect(cut.append(aRecord('b'))).rejects.toMatchObject({ code: 'audit_unavailable' })
    const next = await aLog(store, { sinks: [createFileSink(path)] })
    onTestFinished(() => next.close())
    await next.append(aRecord('c'))
    expect(await linesOf(path)).toEqual(upTo(3))
  })

  it('promise 3: has every acknowledged record when its process is killed, and so has the store', async () => {
    const folder = await aFolder()
    const child = spawn(process.execPath, [fileURLToPath(new URL('./writer.ts', import.meta.url)), folder], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const acknowledged: string[] = []
    for await (const line of createInterface(child.stdout)) if (acknowledged.push(line) === 500) child.kill('SIGKILL')
    expect(acknowledged.length).toBeGreaterThanOrEqual(500)
    const store = await openSqliteStore({ path: join(folder, 'deputy.db') })
    onTestFinished(() => store.close())
    const log = await aLog(store.audit, { sinks: [createFileSink(join(folder, 'audit.jsonl'))] })
    await log.append(aRecord('after'))
    await log.close()
    const rows = await store.audit.query({}, { limit: 1_000_000 })
    expect(await linesOf(join(folder, 'audit.jsonl'))).toEqual(rows.map(({ seq }) => seq))
    const kept = new Set(rows.map(({ id }) => id))
    expect(acknowledged.filter((id) => !kept.has(id))).toEqual([])
    expect(await check(store.audit)).toMatchObject({ ok: true, records: rows.length, checkpoints: 1 })
  })

  it('drops the half line that a killed process left, and writes its record again', async () => {
    const [store, path] = [await aStore(), join(await aFolder(), 'audit.jsonl')]
    const first = await aLog(store, { sinks: [createFileSink(path)] })
    await append(first, 3)
    await first.close()
    await truncate(path, (await stat(path)).size - 20)
    const next = await aLog(store, { sinks: [createFileSink(path)] })
    onTestFinished(() => next.close())
    await next.append(aRecord('d'))
    expect(await linesOf(path)).toEqual(upTo(4))
  })

  it.each([
    ['a line that is no record', 'hello\n'],
    ['a record with a wrong hash', `{"hash":"00","record":{"seq":9}}\n`],
  ])('threat 29: refuses when something else wrote %s to its file, also after a restart', async (_, line) => {
    const [store, path] = [await aStore(), join(await aFolder(), 'audit.jsonl')]
    const log = await aLog(store, { sinks: [createFileSink(path)] })
    await append(log, 2)
    await appendFile(path, line)
    await expect(log.append(aRecord('b'))).rejects.toMatchObject({
      code: 'audit_unavailable',
      facts: { problem: expect.stringContaining('something else writes there') as string },
    })
    await log.close()
    const next = await aLog(store, { sinks: [createFileSink(path)] })
    await expect(next.append(aRecord('c'))).rejects.toMatchObject({
      code: 'audit_unavailable',
      facts: { problem: expect.stringContaining('something else writes there') as string },
    })
    await rename(path, `${path}.1`)
    await next.append(aRecord('d'))
    await next.close()
  })

  it('promise 3: refuses a file with records that the store has lost', async () => {
    const path = join(await aFolder(), 'audit.jsonl')
    const first = await aLog(await aStore(), { sinks: [createFileSink(path)] })
    await append(first, 2)
    await first.close()
    const next = await aLog(await aStore(), { sinks: [createFileSink(path)] })
    onTestFinished(() => next.close())
    await expect(next.append(aRecord('c'))).rejects.toMatchObject({
      code: 'audit_unavailable',
      facts: { problem: expect.stringContaining('ends with record 2') as string },
    })
  })

  it('threat 29: on a full disk refuses, keeps no half line, and misses nothing once there is room', async ({
    skip,
  }) => {
    const folder = await aFolder()
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder]).status !== 0) {
      skip('only root may mount a small file system')
      return
    }
    onTestFinished(() => {
      spawnSync('umount', [folder])
    })
    const path = join(folder, 'audit.jsonl')
    const ballast = join(folder, 'ballast')
    await writeFile(ballast, Buffer.alloc(40_000))
    const log = await aLog(await aStore(), { sinks: [createFileSink(path)] })
    let refusal: unknown
    let count = 0
    for (; refusal === undefined && count < 20; count += 1) {
      await log.append(aRecord('a', { detail: { story: 'x'.repeat(3000) } })).catch((error: unknown) => {
        refusal = error
      })
    }
    expect(refusal).toMatchObject({
      code: 'audit_unavailable',
      facts: { problem: expect.stringContaining('ENOSPC') as string },
    })
    await rm(ballast)
    await log.append(aRecord('b'))
    await log.close()
    expect(await linesOf(path)).toEqual(upTo(count + 2))
  })

  it('finds its last record however long that is', async () => {
    const [store, path] = [await aStore(), join(await aFolder(), 'audit.jsonl')]
    for (const id of ['a', 'b']) {
      const log = await aLog(store, { sinks: [createFileSink(path)] })
      await log.append(aRecord(id, { detail: { story: 'x'.repeat(200_000) } }))
      await log.close()
    }
    expect(await linesOf(path)).toEqual([1, 2])
    expect((await readFile(path)).length).toBeGreaterThan(400_000)
  })

  it('catches up with more records than go into one batch', async () => {
    const [store, path] = [await aStore(), join(await aFolder(), 'audit.jsonl')]
    const first = await aLog(store, { sinks: [createFileSink(path)] })
    await first.append(aRecord('a'))
    await first.close()
    const without = await aLog(store)
    await append(without, 1200)
    await without.close()
    const next = await aLog(store, { sinks: [createFileSink(path)] })
    await next.append(aRecord('z'))
    await next.close()
    expect(await linesOf(path)).toEqual(upTo(1202))
  })
})
