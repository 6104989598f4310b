import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { startGitHub, type GitHubDouble } from '../doubles/github.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  startDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type DaemonHere,
  type TestIssuer,
} from '../support/daemon.ts'
import { PROBE, signIn, startExec } from '../support/exec.ts'
import { stopProcess } from '../support/process.ts'

let github: GitHubDouble
let issuer: TestIssuer
let daemon: DaemonHere

beforeEach(async () => {
  github = await startGitHub()
  issuer = await startTestIssuer()
  daemon = await startDaemonHere(
    {
      ...aCompany({
        issuer: issuer.url,
        notes: { downstreams: { github: { scopes: ['contents:read', 'issues:write'] } } },
      }),
      'downstreams/github.yaml': aDownstream(),
      'policies/access/github.cedar':
        '@id("github") permit (principal is Deputy::User, action == Deputy::Action::"github_app", resource);',
    },
    { network: { allow_loopback: true } },
    { GITHUB_KEY: github.key },
  )
})
afterEach(async () => {
  await daemon?.close()
  await issuer?.close()
  await github?.close()
})

const aDownstream = (): object => ({
  downstream: 'github',
  credential: 'github_app',
  api_url: github.url,
  app: github.clientId,
  key: { env: 'GITHUB_KEY' },
  installations: { acme: '42', globex: '43' },
  scopes: { 'contents:read': 'Read files', 'issues:write': 'Write issues' },
})
const tokenOf = async (sub: string, scope: string, org = 'acme'): Promise<string> =>
  String(
    (
      await daemon.token({
        grant_type: TOKEN_EXCHANGE,
        subject_token: await issuer.sign({ aud: RESOURCES.notes, org, sub }),
        subject_token_type: ACCESS_TOKEN,
        audience: 'github',
        scope,
      })
    ).body['access_token'],
  )
const leasesIn = (receipt: { out: string }): string[] =>
  (JSON.parse(receipt.out) as { leases: { upstream: string }[] }).leases.map(({ upstream }) => upstream)
const filesOf = async (): Promise<string> =>
  (
    await Promise.all(
      (await readdir(daemon.home, { recursive: true, withFileTypes: true }))
        .filter((entry) => entry.isFile())
        .map((entry) => readFile(join(entry.parentPath, entry.name), 'latin1')),
    )
  ).join('\n')

it('promise 4: what was issued is ended at GitHub when its user, its server or its tenant is revoked', async () => {
  const [alices, more, bobs, other] = [
    await tokenOf('alice', 'contents:read'),
    await tokenOf('alice', 'issues:write'),
    await tokenOf('bob', 'contents:read'),
    await tokenOf('carol', 'contents:read', 'globex'),
  ]
  expect(await tokenOf('alice', 'contents:read')).toBe(alices)
  expect(new Set([alices, more, bobs, other]).size).toBe(4)
  const taken = () => Promise.all([alices, more, bobs, other].map((token) => github.takes(token)))
  expect(await taken()).toEqual([true, true, true, true])
  expect(leasesIn(await daemon.deputy('revoke', '--tenant', 'acme', '--user', 'alice', '--json'))).toEqual([
    'done',
    'done',
  ])
  expect(await taken()).toEqual([false, false, true, true])
  expect(leasesIn(await daemon.deputy('revoke', '--server', 'notes', '--tenant', 'acme', '--json'))).toEqual(['done'])
  expect(await taken()).toEqual([false, false, false, true])
  expect(leasesIn(await daemon.deputy('revoke', '--tenant', 'globex', '--yes', '--json'))).toEqual(['done'])
  expect(await taken()).toEqual([false, false, false, false])
  // Nothing of it is in a file, the log or the records.
  const written = `${await filesOf()}${daemon.output()}`
  for (const token of [alices, more, bobs, other]) expect(written.includes(token)).toBe(false)
})

it('promise 4: a daemon that is killed between the order and the call tells GitHub when it is started again', async () => {
  const { kill } = await daemon.moveToProcess()
  const token = await tokenOf('alice', 'contents:read')
  const reached = Promise.withResolvers<void>()
  github.beforeEnd = () => {
    reached.resolve()
    return new Promise(() => undefined)
  }
  const revoking = daemon.deputy('revoke', '--tenant', 'acme', '--user', 'alice')
  await reached.promise
  await kill()
  await revoking
  expect(await github.takes(token)).toBe(true)
  github.beforeEnd = () => undefined
  await daemon.start()
  await expect.poll(() => github.takes(token), { timeout: 30_000, interval: 200 }).toBe(false)
  await expect
    .poll(async () => (await daemon.deputy('lease', 'list', '--json')).out.trim(), { timeout: 15_000, interval: 200 })
    .toBe('[]')
})

it('promise 4: what a daemon issued before it was stopped is ended by a revocation afterwards, and when files speak of it no more', async () => {
  const { kill } = await daemon.moveToProcess()
  const [alices, bobs] = [await tokenOf('alice', 'contents:read'), await tokenOf('bob', 'contents:read')]
  await kill()
  await daemon.start()
  expect(await tokenOf('bob', 'contents:read')).toBe(bobs)
  expect(leasesIn(await daemon.deputy('revoke', '--tenant', 'acme', '--user', 'alice', '--json'))).toEqual(['done'])
  expect([await github.takes(alices), await github.takes(bobs)]).toEqual([false, true])
  await daemon.write({ 'downstreams/github.yaml': { ...aDownstream(), enabled: false } })
  expect((await daemon.deputy('reload')).code).toBe(0)
  await expect.poll(() => github.takes(bobs), { timeout: 15_000, interval: 100 }).toBe(false)
})

it('promise 4: what was given to a started server is ended at GitHub with it', async () => {
  await daemon.stop()
  await daemon.write({
    'servers/started.yaml': {
      server: 'started',
      resource: 'https://started.example/mcp',
      tenants: ['acme'],
      owner: 'o@example.com',
      status: 'approved',
      login_session: true,
      attest: [{ exec: { uid: process.getuid!() } }],
      downstreams: { github: { scopes: ['contents:read'] } },
      exec: { env: { GITHUB_TOKEN: { downstream: 'github' } } },
    },
  })
  await signIn(daemon, { tenant: 'acme', user: 'alice', issuer: issuer.url })
  await daemon.start()
  const run = startExec(daemon.home, ['--server', 'started', '--', process.execPath, PROBE, daemon.socketPath])
  try {
    const token = (await run.next()).environment['GITHUB_TOKEN']!
    expect(await github.takes(token)).toBe(true)
    run.write('exit 0')
    expect(await run.exited).toBe(0)
    await expect.poll(() => github.takes(token), { timeout: 15_000, interval: 50 }).toBe(false)
  } finally {
    await stopProcess(run.process, 'SIGKILL')
  }
})
