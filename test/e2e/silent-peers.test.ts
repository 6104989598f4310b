import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { createSystemRandom, systemClock } from '../../src/clock.ts'
import { packageVersion, shipped } from '../../src/cli/home.ts'
import { startDaemon } from '../../src/daemon/daemon.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { startUnwellHttp, type Unwell } from '../doubles/unwell.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  prepareDaemon,
  startDaemonProcess,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type Daemon,
  type TestIssuer,
} from '../support/daemon.ts'

/** What a machine with other work may add to a documented time (ms). */
const SLACK_MS = 4000

describe('a daemon whose peers are silent', () => {
  let issuer: TestIssuer
  let vault: Unwell
  let collector: Unwell
  let daemon: Daemon
  beforeAll(async () => {
    issuer = await startTestIssuer()
    vault = await startUnwellHttp(({ url = '' }, _, response) => {
      const data = url.includes('lookup-self')
        ? { ttl: 3600, renewable: false }
        : { data: { value: 'of acme' }, metadata: { version: 1 } }
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ data }))
    })
    collector = await startUnwellHttp(() => undefined)
    const company = aCompany({ issuer: issuer.url })
    daemon = await startDaemonProcess(
      {
        ...company,
        'state/token': 'hvs.token',
        'downstreams/mail.yaml': { ...(company['downstreams/mail.yaml'] as object), backend: 'vault', lifetime: '1ms' },
      },
      {
        telemetry: { otlp: collector.url },
        secrets: {
          backends: {
            vault: {
              kind: 'vault',
              address: vault.url,
              login: { token: { file: 'state/token' } },
              timeout: '500ms',
              fresh: '1ms',
              stale: '4s',
            },
          },
        },
      },
    )
  })
  afterAll(async () => {
    await daemon?.close()
    await vault?.close()
    await collector?.close()
    await issuer?.close()
  })

  it('fault 90: uses the copy, says why it refuses in the log and to explain, comes back, and ends on SIGTERM', async () => {
    const exchange = async () =>
      daemon.token({
        grant_type: TOKEN_EXCHANGE,
        subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme' }),
        subject_token_type: ACCESS_TOKEN,
        audience: 'mail',
      })
    expect((await exchange()).body['access_token']).toBe('of acme')
    await vault.set('silent')
    expect((await exchange()).body['access_token']).toBe('of acme')
    await expect.poll(async () => (await exchange()).status, { interval: 250 }).toBe(503)
    const refused = await exchange()
    expect(refused.body).toMatchObject({ reason: 'secret_backend_unavailable' })
    expect(daemon.output()).toMatch(/secret backend unavailable/)
    expect(daemon.output()).toMatch(/did not answer in time|TimeoutError/)
    const explained = await daemon.deputy('explain', String(refused.body['correlation_id']))
    expect(explained.out).toMatch(/did not answer in time|pauses its requests/)
    await vault.set('well')
    await expect.poll(async () => (await exchange()).status, { interval: 250 }).toBe(200)
    // With requests under way that no peer answers.
    await vault.set('silent')
    const last = exchange().catch(() => undefined)
    const began = performance.now()
    await daemon.stop('SIGTERM')
    expect(performance.now() - began).toBeLessThan(3000 + SLACK_MS)
    await last
    // Each line of the output is a record: no library writes between them.
    for (const line of daemon.output().trim().split('\n')) expect(() => JSON.parse(line) as unknown, line).not.toThrow()
  })

  it('fault 90: a start against a silent KMS says so, and ends', async () => {
    const kms = await startUnwellHttp(() => undefined)
    onTestFinished(() => kms.close())
    await kms.set('silent')
    const silent = await prepareDaemon(
      {},
      { kek: { aws: { region: 'eu-west-1', endpoint: kms.url, key: 'alias/deputy', timeout: '300ms' } } },
    )
    onTestFinished(() => silent.close())
    const environment = { ...process.env }
    onTestFinished(() => {
      process.env = environment
    })
    Object.assign(process.env, { AWS_ACCESS_KEY_ID: 'AKIAIOSFODNN7EXAMPLE', AWS_SECRET_ACCESS_KEY: 'not-a-secret' })
    const began = performance.now()
    const start = startDaemon({
      home: silent.home,
      shipped,
      version: await packageVersion(),
      environment: process.env,
      clock: systemClock,
      random: createSystemRandom(),
      logger: silentLogger,
    })
    await expect(start).rejects.toMatchObject({
      code: 'key_service_unavailable',
      message: expect.stringMatching(/did not answer in time/) as string,
    })
    expect(performance.now() - began).toBeLessThan(600 + SLACK_MS)
  })
})
