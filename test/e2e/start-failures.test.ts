/** Every failure at start is a sentence with what to do and an exit code; another attempt is made where it can help. */
import { spawn, spawnSync } from 'node:child_process'
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { once } from 'node:events'
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { createSystemRandom, systemClock } from '../../src/clock.ts'
import { packageVersion, shipped } from '../../src/cli/home.ts'
import { socketFolderProblems } from '../../src/config/socket-folders.ts'
import { settingsSchema } from '../../src/config/settings.ts'
import { OWN_TENANT } from '../../src/foundation/crypto/envelope.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { newKeyText } from '../../src/foundation/crypto/key-encryption-key.ts'
import { startDaemon, type Daemon as Running } from '../../src/daemon/daemon.ts'
import { DeputyError } from '../../src/errors.ts'
import { createLogger } from '../../src/foundation/telemetry/pino-logger.ts'
import { openState } from '../support/grants.ts'
import { prepareDaemon, startDaemonProcess, type Daemon } from '../support/daemon.ts'
import { CLI, freePort, runCli } from '../support/process.ts'

const isRoot = process.getuid?.() === 0
/** A user that owns nothing here. */
const NOBODY = 65_534

/** What a start ended with, in this process: a start of Node costs more. */
const failureOf = async ({ home }: Daemon): Promise<DeputyError> => {
  let running: Running
  try {
    running = await startDaemon({
      home,
      shipped,
      version: await packageVersion(),
      environment: process.env,
      clock: systemClock,
      random: createSystemRandom(),
      logger: createLogger({ level: 'fatal' }),
    })
  } catch (error) {
    expect(error).toBeInstanceOf(DeputyError)
    return error as DeputyError
  }
  await running.stop()
  throw new Error('it started')
}

const sentenceOf = async (daemon: Daemon): Promise<string> => {
  const { code, message, next } = await failureOf(daemon)
  return `${code}: ${message} ${next}`
}

const prepared = async (settings: Record<string, unknown> = {}): Promise<Daemon> => {
  const daemon = await prepareDaemon({}, settings)
  onTestFinished(() => daemon.close())
  await mkdir(join(daemon.home, 'state'), { recursive: true, mode: 0o700 })
  return daemon
}

const taken = async (): Promise<number> => {
  const port = await freePort()
  const server = createServer().listen(port, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  return port
}

describe('fault 31: a start that fails says why and what to do', () => {
  test.each(['connect', 'tcp', 'proxy', 'metrics'])('the port of listen.%s is in use', async (name) => {
    const port = await taken()
    const daemon = await prepared({ listen: { [name]: `127.0.0.1:${port}` } })
    expect(await sentenceOf(daemon)).toBe(
      `start_failed: Deputy cannot start: listen.${name}: another program listens on 127.0.0.1:${port} already. ` +
        `Stop the other program (ss -ltnxp shows it), or write another address in listen.${name} of deputy.yaml.`,
    )
  })

  test('an address that the machine does not have', async () => {
    const daemon = await prepared({ listen: { connect: `192.0.2.1:${await freePort()}` } })
    expect(await sentenceOf(daemon)).toContain(
      'is no address of this machine. Write an address of this machine in listen.connect',
    )
  })

  test.each([
    ['socket', 'run/deputy.sock'],
    ['admin', 'run/admin.sock'],
    ['proxy_socket', 'run/proxy.sock'],
    ['postgres', 'run/pg/.s.PGSQL.5432'],
  ])('a folder is where the socket of listen.%s belongs', async (name, path) => {
    const daemon = await prepared(name === 'postgres' ? { listen: { postgres: 'run/pg' } } : {})
    await mkdir(join(daemon.home, path), { recursive: true })
    expect(await sentenceOf(daemon)).toContain(
      `listen.${name}: ${join(daemon.home, path)} exists and is a folder. Move it away`,
    )
  })

  test('a file is where the folder of the sockets belongs', async () => {
    const daemon = await prepared()
    await writeFile(join(daemon.home, 'run'), '')
    expect(await sentenceOf(daemon)).toMatch(/^start_failed: .*listen\.\w+: .*\/run.* Correct the path in deputy\.yaml/)
  })

  test('the folder of the data keys is empty, and the store is not', async () => {
    const daemon = await prepared()
    const { store, envelope } = await openState(daemon.home)
    const name = { tenant: OWN_TENANT, kind: 'secret', id: 'environment#1' }
    const sealed = await envelope.seal(name, new Secret('production'))
    await store.secrets.putCurrent({
      tenant: OWN_TENANT,
      name: 'environment',
      version: 1,
      sealed,
      createdAt: 0,
      token: null,
    })
    await store.close()
    const keys = join(daemon.home, 'state/keys')
    await rm(keys, { recursive: true })
    const sentence = await sentenceOf(daemon)
    expect(sentence).toMatch(/^start_failed: .*own data key in .*\/state\/keys cannot be opened: its file is missing/)
    expect(sentence).toMatch(/is mounted and the right one.*No other key was made/)
    expect(await readdir(keys)).toEqual([])
  })

  test('the key-encryption key is missing, open to others, a folder, or no key', async () => {
    const daemon = await prepared()
    const kek = join(daemon.home, 'state/kek')
    await chmod(kek, 0o644)
    expect(await sentenceOf(daemon)).toContain(`run: chmod 600 ${kek}`)
    await writeFile(kek, 'no key', { mode: 0o600 })
    await chmod(kek, 0o600)
    expect(await sentenceOf(daemon)).toMatch(/^config_invalid: /)
    await rm(kek)
    expect(await sentenceOf(daemon)).toContain(`${kek} cannot be read (ENOENT)`)
    await mkdir(kek)
    expect(await sentenceOf(daemon)).toContain(`${kek} is not a file`)
    await rm(kek, { recursive: true })
    await symlink('kek', kek)
    expect(await sentenceOf(daemon)).toContain(`${kek} cannot be read (ELOOP)`)
  })

  test('the state folder is missing, open to others, or a file; the keys or the store are something else', async () => {
    const daemon = await prepared()
    const state = join(daemon.home, 'state')
    await chmod(state, 0o755)
    expect(await sentenceOf(daemon)).toContain(`run: chmod 700 ${state}`)
    await chmod(state, 0o700)
    await writeFile(join(state, 'keys'), '')
    expect(await sentenceOf(daemon)).toContain(`${join(state, 'keys')} exists and is no folder`)
    await rm(join(state, 'keys'))
    await mkdir(join(state, 'deputy.db'))
    expect(await sentenceOf(daemon)).toMatch(/^start_failed: .*the embedded store .*deputy\.db cannot be opened/)
    await rm(join(state, 'deputy.db'), { recursive: true })
    await writeFile(join(state, 'deputy.db'), 'this is no database '.repeat(500))
    expect(await sentenceOf(daemon)).toMatch(/^start_failed: .*put back a backup where the file is damaged/)
    await rm(state, { recursive: true })
    expect(await sentenceOf(daemon)).toContain(`the folder ${state} cannot be opened (ENOENT)`)
  })

  /** A file system of its own below a folder. @returns false where that is not allowed */
  const mount = (folder: string, options: string): boolean => {
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', folder]).status !== 0) {
      console.warn(`\n*** SKIPPED: no file system can be mounted here (${options}) ***\n`)
      return false
    }
    onTestFinished(() => void spawnSync('umount', ['-l', folder]))
    return true
  }

  test('the disk is full', async () => {
    const daemon = await prepared({ state: 'small' })
    const state = join(daemon.home, 'small')
    await mkdir(state)
    if (!mount(state, 'size=16k,mode=0700')) return
    const kek = newKeyText(createSystemRandom())
    await writeFile(join(daemon.home, 'state/kek'), kek, { mode: 0o600 })
    expect(await sentenceOf(daemon)).toMatch(/^start_failed: .*(has no room|and that the disk has room)/)
  })

  test('the file system of the state, or of the sockets, is read-only', async () => {
    for (const [settings, name] of [
      [{ state: 'fixed' }, 'fixed'],
      [{ listen: { socket: 'fixed/run/deputy.sock' } }, 'fixed/run'],
    ] as const) {
      const daemon = await prepared(settings)
      const folder = join(daemon.home, 'fixed')
      await mkdir(folder)
      if (!mount(folder, 'ro,mode=0700')) return
      expect(await sentenceOf(daemon)).toMatch(
        new RegExp(`^start_failed: .*${name}.* (is on a file system that is read-only|cannot be created)`),
      )
    }
  })

  test.skipIf(!isRoot)('the folder of the state or of the sockets is of another user', async () => {
    const daemon = await prepared()
    for (const path of ['.', 'deputy.yaml', 'state', 'state/kek']) await chown(join(daemon.home, path), NOBODY, NOBODY)
    await mkdir(join(daemon.home, 'run'), { mode: 0o755 })
    const child = spawn(process.execPath, [CLI, 'serve', '--home', daemon.home], { uid: NOBODY, gid: NOBODY, env: {} })
    let output = ''
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => (output += chunk.toString()))
    const [code] = (await once(child, 'close')) as [number]
    expect({ code, output }).toEqual({
      code: 7,
      output: expect.stringMatching(
        /^Deputy cannot start: listen\.\w+: this user may not use .*\/run\/\w+\.sock\.\nNext: Give .* to the user that the daemon runs as/m,
      ),
    })
    expect(output).not.toContain('    at ')
  })
})

describe('fault 35: a second daemon on the same home', () => {
  let daemon: Daemon
  beforeAll(async () => {
    daemon = await startDaemonProcess({})
  })
  afterAll(() => daemon.close())

  test('ends with an exit code after which the unit starts it again, and does not blame the configuration', async () => {
    const { code, out, err } = await runCli(daemon.home, ['serve'])
    expect({ code, err }).toEqual({
      code: 7,
      err: `Deputy cannot start: the state folder of ${daemon.home}/state/deputy.db is in use by another daemon.\nNext: Stop the other daemon first (deputy status shows its process id), or give this one a home and a state folder of its own.\n`,
    })
    expect(out).not.toContain('error')
    const unit = await readFile(join(import.meta.dirname, '../../deploy/systemd/deputy.service'), 'utf8')
    expect(/^RestartPreventExitStatus=(.*)$/m.exec(unit)![1]!.split(' ')).not.toContain(String(code))
    expect(unit).toContain('Restart=on-failure')
  })

  test('fault 31: with a state of its own is told which socket the other one has', async () => {
    const other = await prepared({ listen: { socket: join(daemon.home, 'run/deputy.sock'), proxy_socket: null } })
    expect(await sentenceOf(other)).toContain(
      `listen.socket: another program answers on ${daemon.home}/run/deputy.sock. Stop the other program`,
    )
    expect((await daemon.deputy('status')).code).toBe(0)
  })

  test.skipIf(!isRoot)('another Unix user is told that it may not read the configuration', async () => {
    const child = spawn(process.execPath, [CLI, 'status', '--home', daemon.home], { uid: NOBODY, gid: NOBODY, env: {} })
    let err = ''
    child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
    const [code] = (await once(child, 'close')) as [number]
    expect({ code, err }).toEqual({
      code: 3,
      err: `${daemon.home}/deputy.yaml cannot be read: this user may not use ${daemon.home}/deputy.yaml.\nNext: Run the command as the user that the daemon runs as. Users of the local API need no configuration folder: set DEPUTY_SOCKET to its socket.\n`,
    })
  })
})

describe('fault 34: folders on the way to a socket', () => {
  const GROUP = 54_321
  let folder: string
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'deputy-folders-'))
    await chmod(folder, 0o755)
  })
  afterAll(() => rm(folder, { recursive: true }))
  afterEach(() => rm(join(folder, 'home'), { recursive: true, force: true }))

  const home = async (mode: number, run: number): Promise<string> => {
    const path = join(folder, 'home')
    await mkdir(join(path, 'run'), { recursive: true })
    await chmod(path, mode)
    await chmod(join(path, 'run'), run)
    return path
  }
  const shutBy = async (path: string, listen: object): Promise<string[]> =>
    (await socketFolderProblems(path, settingsSchema.parse({ listen }))).map(
      ({ message, fix }) =>
        `${/folder (\S+) keeps/.exec(message)![1]!.slice(path.length) || '/'} ${/\((.*)\)/.exec(message)![1]} ${fix}`,
    )

  test('home and run/ that shut out the group are told, each with its command', async () => {
    const path = await home(0o700, 0o700)
    expect(await shutBy(path, { socket_mode: '0660', socket_group: GROUP })).toEqual([
      `/ listen.socket, listen.proxy_socket Run: chgrp ${GROUP} ${path} && chmod g+x ${path}; or write a path outside of it, for example /run/deputy/deputy.sock.`,
      `/run listen.socket, listen.proxy_socket Run: chgrp ${GROUP} ${path}/run && chmod g+x ${path}/run; or write a path outside of it, for example /run/deputy/deputy.sock.`,
    ])
    expect(await shutBy(path, { socket_mode: '0666', proxy_socket: null })).toEqual([
      expect.stringMatching(/^\/ listen.socket Run: chmod o\+x/),
      expect.stringMatching(/^\/run listen.socket Run: chmod o\+x/),
    ])
  })

  test('nothing is told where all may pass, or where no other user is let in', async () => {
    expect(await shutBy(await home(0o700, 0o700), {})).toEqual([])
    expect(await shutBy(await home(0o711, 0o711), { socket_mode: '0660', socket_group: GROUP })).toEqual([])
    // Members of the folder's own group.
    expect(await shutBy(await home(0o710, 0o710), { socket_mode: '0660', socket_group: process.getgid!() })).toEqual([])
    expect(
      await shutBy(await home(0o711, 0o711), { socket_mode: '0660', socket_group: GROUP, postgres: 'made' }),
    ).toEqual([])
  })

  test('the state folder is never opened for a socket', async () => {
    const path = await home(0o711, 0o711)
    await mkdir(join(path, 'state'), { mode: 0o700 })
    expect(await shutBy(path, { socket: 'state/deputy.sock', socket_mode: '0660', socket_group: GROUP })).toEqual([
      '/state listen.socket, listen.proxy_socket The state folder stays private: write a path outside of it, for example /run/deputy/deputy.sock.',
    ])
  })

  test.skipIf(!isRoot)(
    'the folders that the daemon creates let the group pass and no other user; the start tells of the home',
    async () => {
      const daemon = await prepared({
        listen: { socket_mode: '0660', socket_group: GROUP, postgres: 'pg', socket: 'deep/run/deputy.sock' },
      })
      await daemon.start()
      const modes = await Promise.all(
        ['deep', 'deep/run', 'pg'].map(async (path) => {
          const { mode, gid } = await stat(join(daemon.home, path))
          return [path, (mode & 0o777).toString(8), gid]
        }),
      )
      expect(modes).toEqual([
        ['deep', '710', GROUP],
        ['deep/run', '710', GROUP],
        ['pg', '710', GROUP],
      ])
      expect((await daemon.deputy('check')).out).toContain(`the mode 0700 of the folder ${daemon.home} keeps them out`)
      const told = daemon
        .output()
        .split('\n')
        .filter((line) => line.includes('keeps them out'))
        .map((line) => JSON.parse(line) as { fix: string; level: string })
      expect(told).toMatchObject([{ level: 'warn', fix: expect.stringContaining(`chgrp ${GROUP} ${daemon.home} `) }])
      expect((await stat(daemon.home)).mode & 0o777).toBe(0o700)
      await chown(daemon.home, -1, GROUP)
      await chmod(daemon.home, 0o710)
      const asMember = (group: number) =>
        spawnSync(process.execPath, [CLI, 'lease', 'list', '--home', daemon.home], {
          uid: NOBODY,
          gid: group,
          env: { DEPUTY_SOCKET: join(daemon.home, 'deep/run/deputy.sock') },
          encoding: 'utf8',
        }).stderr
      // A member reaches the daemon, which then refuses it as a caller; another user does not reach the socket.
      expect(asMember(NOBODY)).toContain('may not')
      await daemon.stop()
    },
  )

  test('a socket for the daemon alone has a folder for it alone', async () => {
    const daemon = await prepared()
    await daemon.start()
    expect((await stat(join(daemon.home, 'run'))).mode & 0o777).toBe(0o700)
    await daemon.stop()
  })
})
