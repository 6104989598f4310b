import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { startSts, type StsDouble } from '../doubles/aws-sts.ts'
import { aCompany } from '../support/configuration.ts'
import { prepareDaemonHere, startTestIssuer, type RunningDaemon, type TestIssuer } from '../support/daemon.ts'
import { signIn } from '../support/exec.ts'
import { CLI } from '../support/process.ts'

let sts: StsDouble
let issuer: TestIssuer
let daemon: RunningDaemon

beforeEach(async () => {
  sts = await startSts()
  issuer = await startTestIssuer()
  daemon = await prepareDaemonHere(
    {
      ...aCompany({
        issuer: issuer.url,
        notes: {
          downstreams: { reports: { scopes: ['read', 'write'] }, whole: { scopes: [] }, mail: { scopes: [] } },
          login_session: true,
        },
      }),
      'downstreams/reports.yaml': {
        downstream: 'reports',
        credential: 'aws_sts',
        region: sts.region,
        endpoint: sts.url,
        key: { env: 'REPORTS_KEY' },
        role: sts.role,
        tags: ['tenant', 'user', 'server'],
        scopes: { read: 'Read', write: 'Write' },
        statements: {
          read: [{ Effect: 'Allow', Action: 's3:GetObject', Resource: '*' }],
          write: [{ Effect: 'Allow', Action: 's3:PutObject', Resource: '*' }],
        },
      },
      'downstreams/whole.yaml': {
        downstream: 'whole',
        credential: 'aws_sts',
        method: 'session_token',
        region: sts.region,
        endpoint: sts.url,
        key: { env: 'REPORTS_KEY' },
      },
      'policies/access/reports.cedar':
        '@id("reports") permit (principal in Deputy::Tenant::"acme", action == Deputy::Action::"aws_sts", resource) when { context.narrows.contains("session_policy") };',
    },
    { network: { allow_loopback: true } },
    { REPORTS_KEY: JSON.stringify({ AccessKeyId: sts.accessKeyId, SecretAccessKey: sts.secretAccessKey }) },
  )
})
afterEach(async () => {
  await daemon?.close()
  await issuer?.close()
  await sts?.close()
})

it('promise 1: credential_process gets keys for the scopes that were asked, for the user who is signed in', async () => {
  await signIn(daemon, { tenant: 'acme', user: 'alice', issuer: issuer.url })
  await daemon.start()
  const run = (...args: string[]) =>
    promisify(execFile)(process.execPath, [CLI, 'aws-credentials', '--home', daemon.home, '--server', 'notes', ...args])
  const { stdout, stderr } = await run('--downstream', 'reports', '--scope', 'read')
  expect(JSON.parse(stdout)).toMatchObject({
    Version: 1,
    AccessKeyId: expect.stringMatching(/^ASIA/) as string,
    SecretAccessKey: sts.secrets[0],
    SessionToken: sts.secrets[1],
  })
  expect(stderr).toBe('')
  expect(sts.requests).toMatchObject([
    {
      'Tags.member.1.Value': 'acme',
      'Tags.member.2.Value': 'alice',
      'Tags.member.3.Value': 'notes',
      Policy: '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}',
    },
  ])
  // The policy wants what can be held to a session policy, and keys of GetSessionToken cannot.
  await expect(run('--downstream', 'whole')).rejects.toMatchObject({
    code: 1,
    stdout: '',
    stderr: expect.stringContaining('Policy does not let notes act on whole') as string,
  })
  expect(sts.requests).toHaveLength(1)
  await expect(run('--downstream', 'ledger')).rejects.toMatchObject({ code: 1, stdout: '' })
})
