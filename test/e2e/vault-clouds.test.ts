import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { startVaultDouble, type VaultDouble } from '../doubles/vault.ts'
import { aCompany } from '../support/configuration.ts'
import { prepareDaemonHere, startTestIssuer, type RunningDaemon, type TestIssuer } from '../support/daemon.ts'
import { signIn } from '../support/exec.ts'
import { CLI } from '../support/process.ts'

let vault: VaultDouble
let issuer: TestIssuer
let daemon: RunningDaemon

beforeEach(async () => {
  vault = await startVaultDouble()
  issuer = await startTestIssuer()
  const dynamic = { credential: 'dynamic', backend: 'vault', engine: 'aws' }
  daemon = await prepareDaemonHere(
    {
      ...aCompany({
        issuer: issuer.url,
        notes: { downstreams: { uploads: { scopes: [] }, deploys: { scopes: [] } }, login_session: true },
      }),
      'state/token': vault.rootToken,
      'downstreams/uploads.yaml': { downstream: 'uploads', ...dynamic, role: 'uploader' },
      'downstreams/deploys.yaml': { downstream: 'deploys', ...dynamic, role: 'deployer', sts: {} },
      'policies/access/clouds.cedar':
        '@id("clouds") permit (principal in Deputy::Tenant::"acme", action == Deputy::Action::"dynamic", resource);',
    },
    {
      secrets: {
        backends: {
          vault: { kind: 'vault', address: vault.url, login: { token: { file: 'state/token' } }, timeout: '2s' },
        },
      },
    },
  )
  await signIn(daemon, { tenant: 'acme', user: 'alice', issuer: issuer.url })
  await daemon.start()
})
afterEach(async () => {
  await daemon?.close()
  await issuer?.close()
  await vault?.close()
})

const run = async (downstream: string): Promise<Record<string, string>> =>
  JSON.parse(
    (
      await promisify(execFile)(process.execPath, [
        CLI,
        'aws-credentials',
        '--home',
        daemon.home,
        '--server',
        'notes',
        '--downstream',
        downstream,
      ])
    ).stdout,
  ) as Record<string, string>

it('promise 4: credential_process gets keys that a Vault makes at AWS, and a revocation ends them there', async () => {
  const keys = await run('uploads')
  expect(vault.clouds.awsKeys.get(keys['AccessKeyId']!)?.secret).toBe(keys['SecretAccessKey'])
  expect(await run('deploys')).toMatchObject({
    Version: 1,
    AccessKeyId: expect.stringMatching(/^ASIA/) as string,
    SessionToken: expect.any(String) as string,
    Expiration: expect.any(String) as string,
  })
  const revoked = await daemon.deputy('revoke', '--tenant', 'acme', '--user', 'alice', '--json')
  expect(
    (JSON.parse(revoked.out) as { leases: { upstream: string }[] }).leases.map(({ upstream }) => upstream),
  ).toEqual(['done', 'done'])
  expect(vault.clouds.awsKeys.has(keys['AccessKeyId']!)).toBe(false)
  expect(vault.leases.size).toBe(0)
})

it('a check says which settings of an engine stand beside another', async () => {
  await daemon.write({
    'downstreams/uploads.yaml': {
      downstream: 'uploads',
      credential: 'dynamic',
      backend: 'vault',
      role: 'uploader',
      sts: {},
    },
  })
  expect((await daemon.deputy('check')).out).toMatch(/sts is of the engine aws, and this downstream is of database/)
})
