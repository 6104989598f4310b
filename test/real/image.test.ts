/** The container image as `npm run package -- --image` makes it: its bytes, what it has in it, and a daemon that runs in it. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, readFileSync } from 'node:fs'
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { buildImage } from '../../scripts/release/image.ts'
import { freePort, runCli } from '../support/process.ts'

/** ms */
const BUILD_LIMIT = 300_000

const has = (program: string, ...args: string[]): boolean => spawnSync(program, args).status === 0
const [canBuild, canRun] = [
  has('apt-get', '--version') && has('dpkg-deb', '--version'),
  process.getuid?.() === 0 && has('unshare', '--mount', 'true'),
]
if (!canBuild)
  process.stderr.write('SKIPPED: the container image: it is made out of packages of Debian, and apt-get is not here.\n')
else if (!canRun)
  process.stderr.write('SKIPPED: the daemon in the container image: only root may change the root of a process.\n')

const ran = (program: string, args: readonly string[]): string => {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' })
  expect([status, stderr]).toEqual([0, expect.any(String)])
  return stdout
}

const configSchema = z.object({
  config: z.looseObject({
    User: z.string(),
    Env: z.array(z.string()),
    Entrypoint: z.array(z.string()),
    Cmd: z.array(z.string()),
    Labels: z.record(z.string(), z.string()),
    Healthcheck: z.looseObject({ Test: z.array(z.string()) }),
  }),
})
const descriptorSchema = z.looseObject({ digest: z.string(), size: z.number() })
const manifestSchema = z.looseObject({ config: descriptorSchema, layers: z.array(descriptorSchema) })

/** With a read-only root, a user without rights, and no way to get any. */
const RUN = `set -e
mount --bind "$ROOT" "$ROOT"
mount --rbind /dev "$ROOT/dev"
mount -t tmpfs tmpfs "$ROOT/tmp"
for folder in etc/deputy var/lib/deputy run/deputy; do mount --bind "$HOLD/$folder" "$ROOT/$folder"; done
mount -t proc proc "$ROOT/proc"
mount -o remount,ro,bind "$ROOT"
exec chroot --userspec=7880:7880 --groups=7881 "$ROOT" /usr/bin/node "$@"
`

describe.skipIf(!canBuild)('the container image', () => {
  let folder: string
  let layout: string
  let files: readonly string[]
  let config: z.output<typeof configSchema>['config']
  const blob = (digest: string): string => join(layout, 'blobs/sha256', digest.replace('sha256:', ''))

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'deputy-image-'))
    layout = join(folder, 'layout')
    for (const name of ['out', 'work', 'layout', 'root']) await mkdir(join(folder, name))
    files = await buildImage(join(folder, 'work'), join(folder, 'out'))
    await rm(join(folder, 'work'), { recursive: true })
    ran('tar', ['-xf', files[0]!, '-C', layout])
    const index = z
      .looseObject({ manifests: z.array(descriptorSchema) })
      .parse(JSON.parse(await readFile(join(layout, 'index.json'), 'utf8')))
    const manifest = manifestSchema.parse(JSON.parse(readFileSync(blob(index.manifests[0]!.digest), 'utf8')))
    config = configSchema.parse(JSON.parse(readFileSync(blob(manifest.config.digest), 'utf8'))).config
    for (const { digest } of manifest.layers)
      ran('tar', ['-xpf', blob(digest), '-C', join(folder, 'root'), '--numeric-owner'])
  }, BUILD_LIMIT)
  afterAll(() => rm(folder, { recursive: true, force: true }))

  it('is the same bytes when it is made again', { timeout: BUILD_LIMIT }, async () => {
    await mkdir(join(folder, 'again'))
    const again = await buildImage(join(folder, 'work'), join(folder, 'again'))
    for (const [at, path] of again.entries())
      expect((await readFile(path)).equals(await readFile(files[at]!))).toBe(true)
    await rm(join(folder, 'work'), { recursive: true })
  })

  it('runs as 7880 without a shell, is labelled, names what is in it, and root owns the program', async () => {
    expect([config.User, config.Entrypoint, config.Cmd]).toEqual([
      '7880',
      ['node', '/usr/lib/deputy/dist/cli/main.js'],
      ['serve'],
    ])
    expect(config.Labels['org.opencontainers.image.revision']).toMatch(/^[\da-f]{40}$/)
    const root = join(folder, 'root')
    for (const shell of ['bin/sh', 'usr/bin/sh', 'usr/bin/apt-get', 'usr/bin/npm'])
      expect(existsSync(join(root, shell))).toBe(false)
    const bom = await readFile(join(root, 'usr/share/doc/deputy/sbom.cdx.json'), 'utf8')
    expect(bom).toBe(await readFile(files[1]!, 'utf8'))
    for (const name of ['pkg:deb/debian/libc6@', `pkg:generic/node@${process.versions.node}`, 'oidc-provider'])
      expect(bom).toContain(name)
    expect(await readdir(join(root, 'var/lib/dpkg/status.d'))).toContain('libc6')
    if (process.getuid?.() !== 0) return
    const owners = async (path: string): Promise<unknown[]> => {
      const { uid, gid, mode } = await stat(join(root, path))
      return [uid, gid, (mode & 0o7777).toString(8)]
    }
    expect(await owners('usr/lib/deputy/dist/cli/main.js')).toEqual([0, 0, '644'])
    expect(await owners('etc/deputy')).toEqual([0, 7880, '750'])
    expect(await owners('var/lib/deputy')).toEqual([7880, 7880, '700'])
    expect(await owners('run/deputy')).toEqual([7880, 7880, '711'])
    expect(await owners('tmp')).toEqual([0, 0, '1777'])
  })

  it.skipIf(!canRun)('serves with a read-only root, and its health check holds', { timeout: 60_000 }, async () => {
    const [root, hold] = [join(folder, 'root'), join(folder, 'hold')]
    const home = join(hold, 'etc/deputy')
    for (const path of ['etc', 'var/lib/deputy', 'run/deputy']) await mkdir(join(hold, path), { recursive: true })
    expect((await runCli(home, ['init', home])).code).toBe(0)
    await cp(join(home, 'state/kek'), join(hold, 'var/lib/deputy/kek'))
    const port = await freePort()
    await writeFile(
      join(home, 'deputy.yaml'),
      [
        'environment: test',
        `issuer: http://127.0.0.1:${port}`,
        'listen: { socket: /run/deputy/deputy.sock, socket_mode: "0660", socket_group: 7881, admin: /run/deputy/admin.sock, ' +
          `connect: "127.0.0.1:${port}" }`,
        'state: /var/lib/deputy',
        'kek: { file: /var/lib/deputy/kek }',
        '',
      ].join('\n'),
    )
    ran('chown', ['-R', '0:7880', home])
    ran('chmod', ['-R', 'u=rwX,g=rX,o=', home])
    for (const path of ['var/lib/deputy', 'run/deputy']) ran('chown', ['-R', '7880:7880', join(hold, path)])
    await chmod(join(hold, 'var/lib/deputy'), 0o700)
    await chmod(join(hold, 'run/deputy'), 0o711)
    chownSync(join(hold, 'var/lib/deputy/kek'), 7880, 7880)
    const child: ChildProcess = spawn(
      'unshare',
      [
        '--mount',
        '--pid',
        '--fork',
        '--kill-child',
        'sh',
        '-c',
        RUN,
        'sh',
        ...config.Entrypoint.slice(1),
        ...config.Cmd,
      ],
      {
        env: {
          ...Object.fromEntries(config.Env.map((line) => line.split('=') as [string, string])),
          PATH: process.env['PATH'],
          ROOT: root,
          HOLD: hold,
        },
      },
    )
    let output = ''
    for (const stream of [child.stdout!, child.stderr!])
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text
      })
    const ended = once(child, 'exit')
    try {
      await expect.poll(() => output, { timeout: 30_000 }).toContain('deputy is ready')
      const [, program, ...args] = config.Healthcheck.Test
      const socket = join(hold, 'run/deputy/deputy.sock')
      expect(program).toBe('node')
      expect(spawnSync(process.execPath, args, { env: { DEPUTY_SOCKET: socket } }).status).toBe(0)
      expect((await stat(socket)).gid).toBe(7881)
    } finally {
      // The first process of the namespace: as another user it no longer ends with unshare (prctl(2), PR_SET_PDEATHSIG).
      const inside = spawnSync('pgrep', ['-P', String(child.pid)], { encoding: 'utf8' }).stdout
      for (const pid of inside.split('\n').filter((line) => line !== '')) process.kill(Number(pid), 'SIGKILL')
      child.kill('SIGKILL')
      await ended
    }
  })
})
