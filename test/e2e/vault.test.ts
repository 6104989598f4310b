import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { startAwsDouble, type AwsDouble } from '../doubles/aws.ts'
import { startVaultDouble, type VaultDouble } from '../doubles/vault.ts'
import { askRedis, findRedis, startRedis, type RedisServer } from '../peers/redis.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  ask,
  startDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type RunningDaemon,
  type Files,
  type TestIssuer,
} from '../support/daemon.ts'
import { runCli } from '../support/process.ts'

describe('a daemon whose secrets are in vaults', () => {
  let issuer: TestIssuer
  let vault: VaultDouble
  let aws: AwsDouble
  let daemon: RunningDaemon
  beforeAll(async () => {
    issuer = await startTestIssuer()
  })
  afterAll(async () => {
    await issuer?.close()
  })
  beforeEach(async () => {
    vault = await startVaultDouble()
    aws = await startAwsDouble()
  })
  afterEach(async () => {
    await daemon?.close()
    await vault.close()
    await aws.close()
  })

  const start = async (
    backend: 'vault' | 'aws',
    given: { files?: Files; wrapped?: boolean; secretId?: string; fresh?: string } = {},
  ) => {
    const company = aCompany({ issuer: issuer.url })
    daemon = await startDaemonHere(
      {
        ...company,
        'downstreams/mail.yaml': { ...(company['downstreams/mail.yaml'] as object), backend, lifetime: '1ms' },
        ...given.files,
        'state/secret-id': given.secretId ?? vault.approle.secretId,
      },
      {
        secrets: {
          backends: {
            vault: {
              kind: 'vault',
              address: vault.url,
              fresh: given.fresh ?? '1ms',
              stale: '3s',
              timeout: '500ms',
              login: {
                approle: {
                  role: 'deputy',
                  role_id: vault.approle.roleId,
                  secret_id: { file: 'state/secret-id' },
                  wrapped: given.wrapped ?? false,
                },
              },
            },
            aws: { kind: 'aws', region: aws.region, endpoint: aws.url, fresh: '1ms', timeout: '500ms' },
          },
        },
      },
      {
        AWS_ACCESS_KEY_ID: aws.accessKeyId,
        AWS_SECRET_ACCESS_KEY: aws.secretAccessKey,
        AWS_EC2_METADATA_DISABLED: 'true',
      },
    )
  }
  const exchange = async () =>
    daemon.token({
      grant_type: TOKEN_EXCHANGE,
      subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme' }),
      subject_token_type: ACCESS_TOKEN,
      audience: 'mail',
    })
  const checks = async (): Promise<Record<string, string>> =>
    (JSON.parse((await daemon.deputy('status', '--json')).out) as { checks: Record<string, string> }).checks

  it('gives what Vault has for the tenant, survives its outage on what it read, and says so', async () => {
    vault.put('deputy/acme/mail-key', { value: 'of acme' })
    vault.put('deputy/globex/mail-key', { value: 'of globex' })
    await start('vault')
    expect((await exchange()).body).toMatchObject({ access_token: 'of acme' })
    expect(await checks()).toMatchObject({ 'secrets vault': 'ok' })
    vault.sealed = true
    expect((await exchange()).body).toMatchObject({ access_token: 'of acme' })
    expect(await checks()).toMatchObject({ 'secrets vault': expect.stringMatching(/sealed.*in use/) })
    await sleep(3100)
    expect(await exchange()).toMatchObject({
      status: 503,
      body: { reason: 'secret_backend_unavailable', error: 'temporarily_unavailable' },
    })
    vault.sealed = false
    await expect.poll(async () => (await exchange()).body['access_token'], { interval: 200 }).toBe('of acme')
    expect(await checks()).toMatchObject({ 'secrets vault': 'ok' })
  })

  it('promise 9: what Vault has not, or forbids, is said with the next step and without secrets', async () => {
    await start('vault')
    expect((await exchange()).body).toMatchObject({ reason: 'secret_missing' })
    vault.allows = () => false
    const refused = await exchange()
    expect(refused.body).toMatchObject({
      reason: 'secret_backend_refused',
      next: expect.stringMatching(/secrets.backends/),
    })
    expect(refused.text + daemon.output()).not.toContain(vault.approle.secretId)
    // Vault's words and the names of secrets are for admins; any program of the machine may ask whether Deputy is ready.
    expect((await checks())['secrets vault']).toMatch(/refused for the secret acme\/mail-key/)
    const { text } = await ask(daemon, { path: '/readyz' })
    expect(text).toContain('"secrets vault":"not ok')
    expect(text).not.toMatch(/acme|mail-key|permission/)
  })

  it('requirement 33: a wrapping token that was opened before is a security event in the audit log', async () => {
    const stolen = vault.wrapSecretId()
    await fetch(`${vault.url}/v1/sys/wrapping/unwrap`, {
      method: 'POST',
      headers: { 'x-vault-token': stolen, 'x-vault-request': 'true' },
    })
    await start('vault', { wrapped: true, secretId: stolen })
    expect((await exchange()).body).toMatchObject({ reason: 'wrapping_violated' })
    const audit = await daemon.deputy('audit', 'query', '--event', 'secret.unwrap', '--json')
    expect(JSON.parse(audit.out)).toMatchObject([
      { record: { outcome: 'failed', detail: { error: 'wrapping_violated', backend: 'vault' } } },
    ])
  })

  it('gives what AWS Secrets Manager has, with credentials of the standard chain', async () => {
    aws.put('deputy/acme/mail-key', 'of acme')
    await start('aws')
    expect((await exchange()).body).toMatchObject({ access_token: 'of acme' })
  })

  describe.skipIf(!findRedis())('with an account at a real Redis', () => {
    let redis: RedisServer
    beforeAll(async () => {
      redis = await startRedis()
    })
    afterAll(async () => {
      await redis?.close()
    })
    const works = (text: unknown): Promise<boolean> =>
      askRedis(redis.port, async (client) => {
        const { username, password } = JSON.parse(String(text)) as { username: string; password: string }
        return client.auth(username, password).then(
          () => true,
          () => false,
        )
      })

    it.each(['vault', 'aws'] as const)(
      'promise 7: rotates a secret that is kept in %s, while what is handed out always works',
      async (backend) => {
        const user = `app-${backend}`
        await askRedis(redis.port, async (client) => {
          await client.call('ACL', 'SETUSER', user, 'on', '>the-first', '+get')
          await client.call('ACL', 'SETUSER', 'the-admin', 'on', '>admin', '+acl', '+config')
        })
        const first = JSON.stringify({ username: user, password: 'the-first' })
        if (backend === 'vault') vault.put('deputy/acme/mail-key', { value: first })
        else aws.put('deputy/acme/mail-key', first)
        await start(backend, {
          fresh: '10s',
          files: {
            'state/admin': JSON.stringify({ username: 'the-admin', password: 'admin' }),
            'policies/rotation/mail.yaml': {
              rotation: 'mail',
              owner: 'mail@example.com',
              secrets: { backend, tenants: ['acme'], name: 'mail-key' },
              when: { every: '30d' },
              grace: '1s',
              how: {
                rotator: 'redis',
                host: '127.0.0.1',
                port: redis.port,
                tls: false,
                user,
                admin: { file: 'state/admin' },
              },
            },
          },
        })
        expect((await exchange()).body['access_token']).toBe(first)
        expect(
          (
            await daemon.deputy(
              'rotation',
              'run',
              '--tenant',
              'acme',
              '--backend',
              backend,
              '--name',
              'mail-key',
              '--reason',
              'test',
            )
          ).code,
        ).toBe(0)
        const state = async (): Promise<string> =>
          (JSON.parse((await daemon.deputy('rotation', 'history', '--json')).out) as { state: string }[])[0]!.state
        let looks = 0
        for (const until = Date.now() + 20_000; (await state()) !== 'done' && Date.now() < until; looks += 1) {
          const given = await exchange()
          expect([given.status, await works(given.body['access_token'])]).toEqual([200, true])
        }
        expect(await state()).toBe('done')
        expect(looks).toBeGreaterThan(1)
        const after = (await exchange()).body['access_token']
        expect([after === first, await works(after), await works(first)]).toEqual([false, true, false])
      },
    )
  })

  it('promise 8: starts with its key-encryption key in Vault, goes over from a file, and gives nothing out when it cannot be opened', async () => {
    const company = aCompany({ issuer: issuer.url })
    const inVault = {
      vault: {
        address: vault.url,
        key: 'deputy',
        timeout: '500ms',
        login: { approle: { role: 'deputy', role_id: vault.approle.roleId, secret_id: { file: 'state/secret-id' } } },
      },
    }
    daemon = await startDaemonHere({ ...company, 'state/secret-id': vault.approle.secretId })
    expect(
      (await runCli(daemon.home, ['secret', 'set', '--tenant', 'acme', '--name', 'mail-key'], 'of acme')).code,
    ).toBe(0)
    await daemon.stop()
    const settings = await readFile(join(daemon.home, 'deputy.yaml'), 'utf8')
    await daemon.write({
      'deputy.yaml': { ...(parse(settings) as object), kek: inVault, kek_earlier: [{ file: 'state/kek' }] },
    })
    await daemon.start()
    expect((await exchange()).body).toMatchObject({ access_token: 'of acme' })
    expect((await daemon.deputy('key', 'rotate')).out).toMatch(/is vault:transit\/deputy;/)
    await daemon.stop()
    // Nobody needs the file any more.
    await rm(join(daemon.home, 'state/kek'))
    await daemon.write({ 'deputy.yaml': { ...(parse(settings) as object), kek: inVault } })
    await daemon.start()
    expect((await exchange()).body).toMatchObject({ access_token: 'of acme' })
    await daemon.stop()
    vault.sealed = true
    await expect(daemon.start()).rejects.toThrow(/Vault is sealed/)
  })

  it('says before it starts what a policy cannot mean', async () => {
    await start('vault')
    await daemon.write({
      'policies/rotation/mail.yaml': {
        rotation: 'mail',
        owner: 'o',
        secrets: { backend: 'aws', name: 'mail-*' },
        when: { every: '5m' },
        how: { rotator: 'redis', host: '127.0.0.1', user: 'u', admin: { secret: 's', backend: 'elsewhere' } },
      },
    })
    const checked = await daemon.deputy('check')
    expect(checked.code).toBe(3)
    expect(checked.out + checked.err).toMatch(/does not search the backend/)
    expect(checked.out + checked.err).toMatch(/at most one new version in ten minutes/)
    expect(checked.out + checked.err).toMatch(/There is no secret backend elsewhere/)
  })
})
