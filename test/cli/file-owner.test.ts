import { link, mkdir, mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { ownAsBefore, ownAsFolder } from '../../src/cli/registry/file-owner.ts'

it('a link that the owner of a folder has put there gives away nothing that is behind it', async () => {
  const root = await mkdtemp(join(tmpdir(), 'deputy-owner-'))
  const at = (name: string): string => join(root, name)
  await mkdir(at('servers'), { mode: 0o750 })
  await writeFile(at('victim'), '', { mode: 0o600 })
  await symlink(at('victim'), at('servers/link.yaml'))
  await link(at('victim'), at('servers/second-name.yaml'))
  await writeFile(at('servers/new.yaml'), '', { mode: 0o600 })
  const { uid, gid } = await stat(root)
  const before = { uid, gid, mode: 0o666 }
  for (const own of [ownAsFolder, (path: string) => ownAsBefore(path, before)]) {
    await expect(own(at('servers/link.yaml'))).rejects.toThrow(/ELOOP/)
    await own(at('servers/second-name.yaml'))
    expect((await stat(at('victim'))).mode & 0o777).toBe(0o600)
  }
  await ownAsFolder(at('servers/new.yaml'))
  expect((await stat(at('servers/new.yaml'))).mode & 0o777).toBe(0o640)
  await rm(root, { recursive: true })
})
