/** The folders of the unit and of the image, with their modes, below a temporary root: the daemon takes them as they are. */
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { ask } from '../support/daemon.ts'
import { CLI, freePort, runCli, startProcess, stopProcess } from '../support/process.ts'

const DEPLOY = resolve(import.meta.dirname, '../../deploy')

let root = ''
afterEach(async () => {
  await rm(root, { recursive: true, force: true })
})

const modeOf = async (path: string): Promise<string> => ((await stat(path)).mode & 0o777).toString(8)

test.each([
  ['systemd', 'var/lib/deputy/kek', 0o600],
  ['docker', 'run/secrets/deputy_kek', 0o400],
])('deputy serve starts on the folders of %s with its sample settings', async (kind, kek, kekMode) => {
  root = await mkdtemp(join(tmpdir(), 'deputy-layout-'))
  const [home, port] = [join(root, 'etc/deputy'), await freePort()]
  expect((await runCli(root, ['init', home])).code).toBe(0)
  for (const [folder, mode] of [
    ['var/lib/deputy', 0o700],
    ['run/deputy', 0o711],
    ['run/secrets', 0o755],
  ] as const) {
    await mkdir(join(root, folder), { recursive: true })
    await chmod(join(root, folder), mode)
  }
  await copyFile(join(home, 'state/kek'), join(root, kek))
  await chmod(join(root, kek), kekMode)
  await rm(join(home, 'state'), { recursive: true })
  const sample = await readFile(join(DEPLOY, kind, 'deputy.yaml'), 'utf8')
  // The group is left as it is where the test may not give files away; all else is the sample's.
  await writeFile(
    join(home, 'deputy.yaml'),
    sample
      .replaceAll(/ (\/(?:var|run)\/)/g, ` ${root}$1`)
      .replace(/^ {2}socket_group: .*$/m, `  socket_group: ${process.getgid?.()}`)
      .replace(/connect: [\d.]+:7880/, `connect: 127.0.0.1:${port}`),
  )
  await chmod(join(home, 'deputy.yaml'), 0o640)
  for (const folder of ['.', 'run', 'tenants', 'servers']) await chmod(join(home, folder), 0o750)

  const daemon = await startProcess([CLI, 'serve', '--home', home], /deputy is ready/)
  try {
    expect((await ask({ socketPath: join(root, 'run/deputy/deputy.sock') }, { path: '/readyz' })).status).toBe(200)
    expect(await modeOf(join(root, 'run/deputy/deputy.sock'))).toBe('660')
    expect(await modeOf(join(root, 'run/deputy/admin.sock'))).toBe('600')
  } finally {
    await stopProcess(daemon)
  }
  expect(daemon.exitCode).toBe(0)
})
