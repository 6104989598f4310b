/** `npm run test:real`: installs the real peers side by side, runs test/real/, and ends with one line a peer. */
import { spawnSync } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  installPeer,
  PEER_NAMES,
  PeerMissingError,
  peersFolder,
  peerTitle,
  peerVersion,
  SERVERS,
  type PeerName,
} from '../test/peers/install.ts'
import { chosenProgram, lookForProgram } from '../test/peers/programs.ts'
import { runTests, type TestRun } from './run-tests.ts'

/** What a test starts of a peer. */
const PROGRAMS: Partial<Record<PeerName, string>> = { openbao: 'bao', moto: 'moto_server' }

/** Peers that Debian brings; scripts/packages.ts installs them. */
const DEBIAN = { postgres: 'psql', redis: 'redis-server' } as const

/** @returns why a peer is not there */
const installServers = async (): Promise<Map<string, string>> => {
  const missing = new Map<string, string>()
  const began = performance.now()
  process.stdout.write(`Installing what is missing of ${SERVERS.map(peerTitle).join(', ')} into ${peersFolder()} …\n`)
  await Promise.all(
    SERVERS.map(async (name) => {
      const program = PROGRAMS[name]
      if (program !== undefined && chosenProgram(program) !== undefined) return
      try {
        await installPeer(name)
      } catch (error) {
        if (!(error instanceof PeerMissingError)) throw error
        missing.set(name, error.message)
        process.stdout.write(`\n*** SKIPPED: the tests that need ${peerTitle(name)}. ${error.message}. ***\n\n`)
      }
    }),
  )
  process.stdout.write(`The peers are ready after ${Math.round((performance.now() - began) / 1000)} s.\n`)
  return missing
}

/** Peers that are packages of npm, which the tests have anyway. */
const NPM = { typescript: '@modelcontextprotocol/client' } as const

interface Tally {
  passed: number
  failed: number
  skipped: number
}

/** A test file says which peers it needs: by importing test/peers/<peer>.ts, by `needPeer('<peer>')`, or by a program `with-<peer>.ts`. */
const peersOf = (source: string): string[] => {
  const known: readonly string[] = [...PEER_NAMES, ...Object.keys(DEBIAN), ...Object.keys(NPM)]
  return known.filter((peer) =>
    [`peers/${peer}.ts'`, `needPeer('${peer}')`, `with-${peer}.ts'`].some((mark) => source.includes(mark)),
  )
}

/** A case counts for the peers of its file; where its name contains some of them, for those alone. */
const tallyCases = async (files: TestRun['files']): Promise<Map<string, Tally>> => {
  const tallies = new Map<string, Tally>()
  for (const { path, cases } of files) {
    const used = peersOf(await readFile(path, 'utf8'))
    for (const { name, status } of cases) {
      const named = used.filter((peer) => new RegExp(`\\b${peer}\\b`, 'i').test(name))
      for (const peer of named.length > 0 ? named : used) {
        const tally = tallies.get(peer) ?? { passed: 0, failed: 0, skipped: 0 }
        tally[status === 'passed' || status === 'failed' ? status : 'skipped'] += 1
        tallies.set(peer, tally)
      }
    }
  }
  return tallies
}

/** A program of the machine's own is not of the pinned version. */
const versionOf = async (peer: string): Promise<string> => {
  if (peer in NPM) {
    const manifest = join(import.meta.dirname, '../node_modules', NPM[peer as keyof typeof NPM], 'package.json')
    return (JSON.parse(await readFile(manifest, 'utf8')) as { version: string }).version
  }
  const name = PEER_NAMES.find((each) => each === peer)
  const program = name === undefined ? DEBIAN[peer as keyof typeof DEBIAN] : PROGRAMS[name]
  const path = name === undefined ? program : program && lookForProgram(name, program)
  const asked = path === undefined ? '' : spawnSync(path, ['--version'], { encoding: 'utf8' }).stdout
  return /\d+(?:\.\d+)+/.exec(asked ?? '')?.[0] ?? (name === undefined ? 'unknown version' : peerVersion(name))
}

const titleOf = (peer: string): string => {
  const name = PEER_NAMES.find((each) => each === peer)
  return name === undefined ? `${peer[0]!.toUpperCase()}${peer.slice(1)}` : peerTitle(name)
}

const missing = await installServers()
const run = await runTests(['--config', 'vitest.real.config.ts', ...process.argv.slice(2)])
const tallies = await tallyCases(run.files)
process.stdout.write('\n')
for (const peer of new Set([...tallies.keys(), ...missing.keys()])) {
  const { passed, failed, skipped } = tallies.get(peer) ?? { passed: 0, failed: 0, skipped: 0 }
  const why =
    missing.get(peer) ?? (skipped === 0 ? undefined : 'the case does not concern it, or another peer is missing')
  process.stdout.write(
    `${titleOf(peer)} ${await versionOf(peer)}: ${passed} passed, ${failed} failed, ${skipped} skipped${why === undefined ? '' : ` (${why})`}\n`,
  )
}
process.stdout.write(`${run.summary}\n`)
process.exitCode = run.exitCode
