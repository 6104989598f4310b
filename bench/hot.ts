/**
 * Cached and uncached exchanges: what they cost beside the floors, and beside the version of another folder where one is
 * given. Then what a record costs on the disk, and the memory after many requests.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { randomUUID } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { aCompany, RESOURCES } from '../test/support/configuration.ts'
import { ask, prepareDaemon, startTestIssuer, type Daemon, type TestIssuer } from '../test/support/daemon.ts'
import { OIDC_FORM, startFloor, startOidc } from './floors.ts'
import { exchangeForm, load } from './load.ts'
import { inTurn, ratio, rowOf, type Outcome, type Side } from './rounds.ts'
import { pssOf, sizeOf, writtenBy } from './usage.ts'

export interface HotOptions {
  /** The file that answers `--oidc`. */
  readonly main: string
  readonly isQuick: boolean
  /** Seconds of each side in each round. */
  readonly seconds: number
  /** A folder with another version of Deputy. */
  readonly against: string | undefined
}

/** One version of Deputy under load. */
interface Version {
  readonly daemon: Daemon
  readonly side: (body: () => string) => Side
}

const formOf = (subject: string): string => exchangeForm(subject, 'ledger', 'ledger:read')
const signFor = (issuer: TestIssuer, sub: string): Promise<string> =>
  issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub, exp: Math.floor(Date.now() / 1000) + 7200 })

const startVersion = async (issuer: TestIssuer, name: string, folder: string | undefined): Promise<Version> => {
  const cli = folder === undefined ? undefined : join(resolve(folder), 'src/cli/main.ts')
  const daemon = await prepareDaemon(aCompany({ issuer: issuer.url }), {}, {}, cli)
  await daemon.start()
  return {
    daemon,
    side: (body) => ({
      name,
      to: { origin: 'http://localhost', socketPath: daemon.socketPath },
      path: '/oauth2/token',
      pid: daemon.process.pid!,
      body,
    }),
  }
}

/** The answer of an exchange, and the record that was made of it. */
const firstExchange = async ({ daemon }: Version, form: string): Promise<{ answer: string; record: object }> => {
  const headers = { 'content-type': 'application/x-www-form-urlencoded' }
  const answer = await ask(daemon, { path: '/oauth2/token', headers, body: form })
  if (answer.status !== 200) throw new Error(answer.text)
  const admin = { socketPath: join(daemon.home, 'run/admin.sock') }
  // The first was obtained, and the following come out of the cache.
  await ask(daemon, { path: '/oauth2/token', headers, body: form })
  const records = await ask(admin, { path: '/audit?event=token.exchange&last=true&limit=1' })
  const [{ record } = { record: {} }] = records.body as unknown as { record: object }[]
  return { answer: answer.text, record }
}

export interface Disk {
  /** Bytes of a record as it is hashed, with its hash. */
  readonly kept: number
  /** Bytes that went to the disk for each record. */
  readonly written: number
  /** By which the state folder grew for each record. */
  readonly grown: number
  readonly pss: number
  readonly requests: number
}

/** What many requests write and leave in memory. */
const measureDisk = async ({ daemon, side }: Version, form: string, kept: number, requests: number): Promise<Disk> => {
  const { to, path, pid } = side(() => form)
  const state = join(daemon.home, 'state')
  const [written, size] = [await writtenBy(pid), await sizeOf(state)]
  let count = 0
  while (count < requests) count += (await load(to, path, () => form, 2)).requests
  return {
    kept,
    written: ((await writtenBy(pid)) - written) / count,
    grown: ((await sizeOf(state)) - size) / count,
    pss: await pssOf(pid),
    requests: count,
  }
}

export interface Hot {
  readonly cached: Readonly<Record<string, Readonly<Record<string, Outcome>>>>
  readonly uncached: Readonly<Record<string, Outcome>>
  readonly disk: Readonly<Record<string, Disk>>
}

/** Users whose tokens are seen for the first time, one after the other; each needs a signature to verify and one to make. */
const strangers = async (issuer: TestIssuer, count: number): Promise<() => string> => {
  const forms = await Promise.all(
    Array.from({ length: count }, async () => formOf(await signFor(issuer, randomUUID()))),
  )
  return () => {
    const form = forms.pop()
    if (form === undefined) throw new Error('there are no more tokens: give the bench fewer seconds')
    return form
  }
}

/** More than a version can use up in a second. */
const STRANGERS_A_SECOND = 5000

export const measureHot = async ({ main, isQuick, seconds, against }: HotOptions): Promise<Hot> => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-bench-'))
  const issuer = await startTestIssuer()
  const versions = {
    now: await startVersion(issuer, 'now', undefined),
    ...(against === undefined ? {} : { before: await startVersion(issuer, 'before', against) }),
  }
  const form = formOf(await signFor(issuer, 'alice'))
  const { answer, record } = await firstExchange(versions.now, form)
  const [bare, floor] = [await startFloor(folder, answer), await startFloor(folder, answer, record)]
  const floorSide = (name: string, { process, ...to }: typeof bare): Side => ({
    name,
    to,
    path: '/',
    pid: process.pid!,
    body: () => form,
  })
  const of = (body: () => string): Record<string, Side> =>
    Object.fromEntries(Object.entries(versions).map(([name, { side }]) => [name, side(body)]))
  const sides: Record<string, Side> = {
    bare: floorSide('bare', bare),
    floor: floorSide('floor', floor),
    ...of(() => form),
  }
  const rounds = isQuick ? 2 : 5
  await inTurn(sides, { rounds: 1, seconds: 2, connections: 32 })
  const cached = {
    32: await inTurn(sides, { rounds, seconds, connections: 32 }),
    128: await inTurn(sides, { rounds, seconds, connections: 128 }),
  }
  await Promise.all([bare.stop(), floor.stop()])
  const disk: Record<string, Disk> = {}
  const kept = Buffer.byteLength(JSON.stringify(record)) + 64
  for (const [name, version] of Object.entries(versions))
    disk[name] = await measureDisk(version, form, kept, isQuick ? 5000 : 100_000)
  const oidc = await startOidc(main)
  const body = await strangers(issuer, STRANGERS_A_SECOND * (seconds + 1) * rounds)
  const uncached = await inTurn(
    {
      oidc: {
        name: 'oidc-provider',
        to: { origin: oidc.origin },
        path: '/token',
        pid: oidc.process.pid!,
        body: () => OIDC_FORM,
      },
      ...of(body),
    },
    { rounds, seconds, connections: 32 },
  )
  await Promise.all([oidc.stop(), issuer.close(), ...Object.values(versions).map(({ daemon }) => daemon.close())])
  await rm(folder, { recursive: true, force: true })
  return { cached, uncached, disk }
}

const MB = 1_048_576

const linesAt = (connections: string, sides: Readonly<Record<string, Outcome>>): string[] => {
  const { bare, floor, now, before } = sides as Record<'bare' | 'floor' | 'now', Outcome> & { before?: Outcome }
  return [
    rowOf(`bare node:http, ${connections} connections`, bare),
    rowOf(`with a durable record`, floor),
    ...(before === undefined ? [] : [rowOf('cached exchange, before', before)]),
    rowOf('cached exchange', now),
    `  cached / durable floor ${ratio(now, floor, 'perSecond').toFixed(2)} (goal >= 0.8)`,
    `  cached / bare          ${ratio(now, bare, 'perSecond').toFixed(2)} (goal >= ${connections === '32' ? 0.45 : 0.5})`,
    `  p99 cached / bare      ${ratio(now, bare, 'p99').toFixed(2)} (goal <= 2), cached / floor ${ratio(now, floor, 'p99').toFixed(2)}`,
    ...(before === undefined ? [] : [cpuLine(now, before, 0.55)]),
  ]
}

const cpuLine = (now: Outcome, before: Outcome, goal: number): string =>
  `  CPU / CPU before       ${(now.cpu.total / before.cpu.total).toFixed(2)} (goal <= ${goal})`

const diskLine = ([name, { kept, written, grown, pss, requests }]: readonly [string, Disk]): string =>
  `${name}: ${Math.round(written)} bytes written to disk a record, ${Math.round(kept)} kept = ${(written / kept).toFixed(1)} (goal <= 3), state grew by ${Math.round(grown)}; PSS ${Math.round(pss / MB)} MB after ${requests} more requests`

export const linesOfHot = ({ cached, uncached, disk }: Hot): string[] => {
  const { oidc, now, before } = uncached as Record<'oidc' | 'now', Outcome> & { before?: Outcome }
  const memory =
    disk['before'] === undefined
      ? []
      : [`  PSS / PSS before       ${(disk['now']!.pss / disk['before'].pss).toFixed(2)} (goal <= 0.7)`]
  return [
    ...Object.entries(cached).flatMap(([connections, sides]) => linesAt(connections, sides)),
    rowOf('oidc-provider client_credentials', oidc),
    ...(before === undefined ? [] : [rowOf('uncached minted exchange, before', before)]),
    rowOf('uncached minted exchange', now),
    `  uncached / oidc        ${ratio(now, oidc, 'perSecond').toFixed(2)} (goal >= 0.8)`,
    ...(before === undefined ? [] : [cpuLine(now, before, 0.6)]),
    ...Object.entries(disk).map(diskLine),
    ...memory,
  ]
}
