import { spawnSync } from 'node:child_process'
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { makeFolders } from '../../src/foundation/files/make-folders.ts'

describe('folders with those above them', () => {
  it('are made with their mode, and the first that was missing is said; a file in the way is refused', async () => {
    const root = await mkdtemp(join(tmpdir(), 'deputy-folders-'))
    expect(await makeFolders(join(root, 'a/b/c'))).toBe(join(root, 'a'))
    for (const each of ['a', 'a/b', 'a/b/c']) expect((await stat(join(root, each))).mode & 0o777).toBe(0o700)
    expect(await makeFolders(join(root, 'a/b/c'))).toBeUndefined()
    await Promise.all(Array.from({ length: 8 }, () => makeFolders(join(root, 'x/y'))))
    await writeFile(join(root, 'file'), '')
    await expect(makeFolders(join(root, 'file'))).rejects.toThrow(/EEXIST/)
    await expect(makeFolders(join(root, 'file/below'))).rejects.toThrow(/EEXIST|ENOTDIR/)
    await rm(root, { recursive: true })
  })

  it('below /proc are refused, where mkdir of Node with recursive never ends', async () => {
    await expect(makeFolders('/proc/x/y')).rejects.toThrow(/ENOENT/)
  })

  it('no source makes them otherwise', () => {
    const args = ['-rnE', String.raw`mkdir(Sync)?\(.*recursive`, resolve(import.meta.dirname, '../../src')]
    const { stdout: found } = spawnSync('grep', args, { encoding: 'utf8' })
    expect(found).toBe('')
  })
})
