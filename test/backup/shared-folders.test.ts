import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { openBackup, writeBackup } from '../../src/foundation/backup/file.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'

const passphrase = new Secret('a passphrase for tests')
let folder: string
const at = (name: string): string => join(folder, name)
const write = (path: string, replaces: boolean) =>
  writeBackup({
    path,
    passphrase,
    random: createSystemRandom(),
    now: Date.now(),
    kind: 'data-keys',
    replaces,
    manifest: {},
    sources: [],
    verify: () => Promise.resolve(),
  })

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'deputy-shared-'))
})
afterAll(() => rm(folder, { recursive: true }))

describe('a folder that other users may write', () => {
  it('what they put there under the name of an unfinished backup keeps no backup from being made', async () => {
    const name = '.deputy-backup-00000000-0000-4000-8000-000000000000.new'
    await mkdir(at(name))
    await writeFile(at(name.replace('0', '1')), 'left behind by a kill')
    for (const each of [name, name.replace('0', '1')]) await utimes(at(each), 1, 1)
    expect(await write(at('made'), false)).toBeGreaterThan(0)
    expect((await readdir(folder)).sort()).toEqual([name, 'made'])
  })

  it('a pipe in the place of a backup is refused, and not waited for', async () => {
    execFileSync('mkfifo', [at('pipe')])
    await expect(openBackup(at('pipe'), passphrase)).rejects.toThrow(/not a file that deputy backup has written/)
    await expect(write(at('pipe'), true)).rejects.toThrow(/a file of another kind has this name/)
  })
})
