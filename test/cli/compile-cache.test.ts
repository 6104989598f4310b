import { chmod, mkdir, mkdtemp, rm, stat, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { compileCacheFolder } from '../../src/cli/compile-cache.ts'

describe('the folder of compiled code, which runs unread', () => {
  let home: string
  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'deputy-compiled-'))
  })
  afterAll(() => rm(home, { recursive: true }))

  it("is the user's alone: made with mode 0700 below HOME, XDG_CACHE_HOME or systemd's folder", async () => {
    const below = join(home, '.cache/deputy')
    expect(compileCacheFolder({ HOME: home })).toBe(below)
    expect((await stat(below)).mode & 0o777).toBe(0o700)
    expect(compileCacheFolder({ HOME: home, XDG_CACHE_HOME: join(home, 'xdg') })).toBe(join(home, 'xdg/deputy'))
    const ofUnit = join(home, 'unit')
    expect(compileCacheFolder({ HOME: home, CACHE_DIRECTORY: ofUnit })).toBe(join(ofUnit, 'compiled'))
  })

  it('is none where another user could write it, owns it, or it is a link', async () => {
    const open = join(home, 'open/deputy')
    await mkdir(open, { recursive: true })
    await chmod(open, 0o770)
    expect(compileCacheFolder({ XDG_CACHE_HOME: join(home, 'open') })).toBeUndefined()

    await mkdir(join(home, 'linked'))
    await symlink(join(home, '.cache/deputy'), join(home, 'linked/deputy'))
    expect(compileCacheFolder({ XDG_CACHE_HOME: join(home, 'linked') })).toBeUndefined()

    expect(compileCacheFolder({ HOME: home }, process.getuid!() + 1)).toBeUndefined()
  })

  it('is none where another user could put another folder in its place', async () => {
    const shared = join(home, 'shared')
    await mkdir(shared)
    expect(compileCacheFolder({ HOME: shared })).toBe(join(shared, '.cache/deputy'))
    for (const [folder, mode, found] of [
      [shared, 0o775, false],
      [shared, 0o1777, true],
      [join(shared, '.cache'), 0o770, false],
      [join(shared, '.cache'), 0o700, true],
    ] as const) {
      await chmod(folder, mode)
      expect([mode, compileCacheFolder({ HOME: shared }) !== undefined]).toEqual([mode, found])
    }
    // By a link too, whose own folder is closed.
    await chmod(shared, 0o775)
    await symlink(join(shared, '.cache'), join(home, 'link'))
    expect(compileCacheFolder({ XDG_CACHE_HOME: join(home, 'link') })).toBeUndefined()
  })

  it.each([{}, { HOME: '' }, { HOME: 'relative' }, { HOME: '/dev/null' }, { HOME: '/nonexistent-home' }])(
    'is none for %o',
    (environment) => {
      expect(compileCacheFolder(environment)).toBeUndefined()
    },
  )
})
