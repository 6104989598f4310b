import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { downstreamSchema, type Downstream } from '../../src/config/downstream.ts'
import { engineProblems } from '../../src/config/engine-question.ts'
import type { CredentialRequest } from '../../src/credentials/connector/connector.ts'
import { createDynamicConnector } from '../../src/credentials/connector/vault/dynamic.ts'
import { kinds } from '../../src/credentials/connector/kinds.ts'
import { isLeaseWanted } from '../../src/flows/exchange/lease-life.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import type { LeasedSecrets } from '../../src/credentials/secret/backend.ts'
import { Leases } from '../../src/credentials/secret/leases.ts'
import { createVaultAws, createVaultAzure, createVaultGcp } from '../../src/credentials/secret/vault/cloud.ts'
import { createVaultDatabase } from '../../src/credentials/secret/vault/database.ts'
import { startVaultDouble, type VaultDouble } from '../doubles/vault.ts'
import { startGround, type KeysAndStore } from '../support/keyring.ts'
import { aServer, aSnapshot, aTenant } from '../support/snapshot.ts'
import { connectToVault } from '../support/vaults.ts'

const ROLES = 'arn:aws:iam::123456789012:role'

describe('what the engines of a Vault make', () => {
  let vault: VaultDouble
  let keysAndStore: KeysAndStore
  let connection: ReturnType<typeof connectToVault>
  let leases: Leases
  let engines: Readonly<Record<string, LeasedSecrets>>
  let offset: number
  const clock = { now: (): number => Date.now() + offset }
  beforeEach(async () => {
    offset = 0
    vault = await startVaultDouble()
    keysAndStore = await startGround()
    connection = connectToVault(vault)
    const of = (mount: string) => ({ id: 'vault', mount, session: connection.session, clock, making: 5000 })
    engines = {
      vault: createVaultDatabase(of('database')),
      'vault/aws': createVaultAws(of('aws')),
      'vault/gcp': createVaultGcp(of('gcp')),
      'vault/azure': createVaultAzure(of('azure')),
    }
    leases = new Leases({
      store: keysAndStore.store.leases,
      envelope: keysAndStore.envelope,
      backendOf: (id) => engines[id],
      isVoid: () => false,
      isWanted: () => true,
      clock,
      random: createSystemRandom(),
      logger: silentLogger,
      audit: { append: () => Promise.resolve() },
    })
  })
  afterEach(async () => {
    await leases.close()
    await connection.close()
    await keysAndStore.close()
    await vault.close()
  })

  const aDownstream = (given: object): Downstream =>
    downstreamSchema.parse({ downstream: 'cloud', credential: 'dynamic', backend: 'vault', ...given })
  const obtain = (given: object, over: Partial<CredentialRequest> = {}, mount = 'gcp') =>
    createDynamicConnector({
      leases,
      clock,
      backendOf: () => undefined,
      engineOf: (id) => engines[id],
      tokensOf: () => createVaultGcp({ id: 'vault', mount, session: connection.session, clock, making: 5000 }),
    }).obtain({
      principal: { kind: 'user', tenant: 'acme', user: 'alice' },
      tenant: aTenant(),
      server: aServer(),
      downstream: aDownstream(given),
      scopes: [],
      notAfter: Infinity,
      audiences: [],
      priorActors: [],
      ancestors: [],
      correlationId: 'c',
      ...over,
    })
  const jsonOf = async (given: object, over: Partial<CredentialRequest> = {}): Promise<Record<string, string>> =>
    JSON.parse((await obtain(given, over)).token.reveal()) as Record<string, string>
  const bob = { principal: { kind: 'user', tenant: 'acme', user: 'bob' } } as const
  const forward = (milliseconds: number): void => {
    offset += milliseconds
    connection.forward(milliseconds)
  }

  it('promise 8: keys of an IAM user are of one owner, under a lease, in the form that AWS programs read', async () => {
    const { token, expiresAt, grant, issuedTokenType } = await obtain({ engine: 'aws', role: 'uploader' })
    const keys = JSON.parse(token.reveal()) as Record<string, string>
    expect(keys).toEqual({
      Version: 1,
      AccessKeyId: expect.stringMatching(/^AKIA/) as string,
      SecretAccessKey: vault.clouds.awsKeys.get(keys['AccessKeyId']!)?.secret,
      Expiration: new Date(expiresAt).toISOString(),
    })
    expect(issuedTokenType).toBe('urn:deputy:params:oauth:token-type:secret')
    expect(await leases.list({ id: grant! })).toMatchObject([
      { tenant: 'acme', user: 'alice', backend: 'vault/aws', role: 'creds/uploader', state: 'active' },
    ])
    expect((await jsonOf({ engine: 'aws', role: 'uploader' }))['AccessKeyId']).toBe(keys['AccessKeyId'])
    expect((await jsonOf({ engine: 'aws', role: 'uploader' }, bob))['AccessKeyId']).not.toBe(keys['AccessKeyId'])
  })

  it('promise 4: a revocation ends keys at AWS, key files at Google and client secrets at Microsoft, through Vault', async () => {
    for (const given of [
      { engine: 'aws', role: 'uploader' },
      { downstream: 'files', engine: 'gcp', role: 'exporter', gcp: { issues: 'key' } },
      { downstream: 'machines', engine: 'azure', role: 'contributor' },
    ])
      await obtain(given)
    const alive = () => [vault.clouds.awsKeys.size, vault.clouds.gcpKeys.size, vault.clouds.azureSecrets.size]
    expect(alive()).toEqual([1, 1, 1])
    vault.sealed = true
    expect((await leases.end([{ tenant: 'acme', user: 'alice' }])).map(({ upstream }) => upstream)).toEqual([
      'queued',
      'queued',
      'queued',
    ])
    vault.sealed = false
    connection.forward(10_000)
    for (let tries = 0; tries < 5 && alive().some((each) => each > 0); tries += 1) {
      forward(10_000)
      await leases.tick()
    }
    expect([...alive(), await leases.list({})]).toEqual([0, 0, 0, []])
  })

  it('is renewed where Vault says that it can be', async () => {
    const first = await jsonOf({ engine: 'aws', role: 'uploader' })
    for (let quarter = 0; quarter < 6; quarter += 1) {
      forward(900_000)
      await leases.tick()
      await obtain({ engine: 'aws', role: 'uploader' })
    }
    expect((await jsonOf({ engine: 'aws', role: 'uploader' }))['AccessKeyId']).toBe(first['AccessKeyId'])
    expect(vault.asked.some(({ path }) => path === 'sys/leases/renew')).toBe(true)
  })

  it('temporary keys are for the role that is named, the session says who asks, and they end when they say', async () => {
    const given = { engine: 'aws', role: 'several', sts: { role_arn: `${ROLES}/staging` }, lifetime: '30m' }
    const keys = await jsonOf(given)
    expect(keys).toMatchObject({
      AccessKeyId: expect.stringMatching(/^ASIA/) as string,
      SessionToken: expect.any(String) as string,
    })
    expect(vault.clouds.awsKeys.get(keys['AccessKeyId']!)).toMatchObject({
      arn: `${ROLES}/staging`,
      session: expect.stringMatching(/^notes\.alice-[0-9a-f]{16}$/) as string,
      seconds: 1800,
    })
    expect((await leases.list({}))[0]).toMatchObject({ duration: expect.closeTo(1_800_000, -3) })
    forward(1_700_000)
    await leases.tick()
    expect((await jsonOf(given))['AccessKeyId']).toBe(keys['AccessKeyId'])
    forward(99_000)
    expect((await jsonOf(given))['AccessKeyId']).not.toBe(keys['AccessKeyId'])
  })

  it('temporary keys live no longer than the role lets them, and never shorter than AWS does', async () => {
    const secondsOf = async (downstream: string, given: object) =>
      vault.clouds.awsKeys.get(
        (await jsonOf({ downstream, engine: 'aws', role: 'deployer', sts: {}, ...given }))['AccessKeyId']!,
      )?.seconds
    expect([
      await secondsOf('a', { lifetime: '12h' }),
      await secondsOf('b', { lifetime: '1m' }),
      await secondsOf('c', {}),
      await secondsOf('d', { role: 'federated' }),
    ]).toEqual([7200, 900, 3600, 3600])
    const { expiresAt } = await obtain({ downstream: 'b', engine: 'aws', role: 'deployer', sts: {}, lifetime: '1m' })
    expect(expiresAt).toBeLessThanOrEqual(clock.now() + 60_000)
  })

  it('a role is one segment of a path, and leads nowhere else', () => {
    for (const role of ['.', '..', '', 'a/b', 'a%2fb', '../sys'])
      expect([
        role,
        downstreamSchema.safeParse({ downstream: 'cloud', credential: 'dynamic', backend: 'vault', role }).success,
      ]).toEqual([role, false])
    for (const role of ['reader', 'v1.2', '...'])
      expect([
        role,
        downstreamSchema.safeParse({ downstream: 'cloud', credential: 'dynamic', backend: 'vault', role }).success,
      ]).toEqual([role, true])
  })

  it('threat 24: another role in the file means other keys, and the old ones are not wanted any more', async () => {
    const first = await jsonOf({ engine: 'aws', role: 'several', sts: { role_arn: `${ROLES}/staging` } })
    const second = await jsonOf({ engine: 'aws', role: 'several', sts: { role_arn: `${ROLES}/production` } })
    expect([first, second].map((keys) => vault.clouds.awsKeys.get(keys['AccessKeyId']!)?.arn)).toEqual([
      `${ROLES}/staging`,
      `${ROLES}/production`,
    ])
    const active = (await leases.list({})).find(({ role }) => role.includes('production'))
    const wanted = (given: object) =>
      isLeaseWanted(
        {
          ...aSnapshot({ servers: [aServer({ downstreams: { cloud: { scopes: [] } } })] }),
          downstreams: new Map([['cloud', aDownstream(given)]]),
        },
        active!,
      )
    const same = { engine: 'aws', role: 'several', sts: { role_arn: `${ROLES}/production` } }
    expect([
      wanted(same),
      wanted({ ...same, sts: {} }),
      wanted({ ...same, sts: undefined }),
      wanted({ role: 'several' }),
      wanted({ engine: 'azure', role: 'several' }),
    ]).toEqual([true, false, false, false, false])
  })

  it.each([
    ['roleset', 'viewer'],
    ['static-account', 'app'],
    ['impersonated-account', 'auditor'],
  ])('a token of a %s is a token that ends when Vault says, without a lease', async (account, role) => {
    const { token, tokenType, issuedTokenType, expiresAt, grant } = await obtain({
      engine: 'gcp',
      role,
      gcp: { account },
    })
    expect([token.reveal().startsWith('ya29.'), tokenType, issuedTokenType, grant]).toEqual([
      true,
      'Bearer',
      'urn:ietf:params:oauth:token-type:access_token',
      undefined,
    ])
    expect(Math.abs(expiresAt - (clock.now() + 3_599_000))).toBeLessThan(2000)
    expect(await leases.list({})).toEqual([])
    expect((await obtain({ engine: 'gcp', role, gcp: { account } }, { notAfter: 5 })).expiresAt).toBe(5)
  })

  it('a key of Google is the key file, and one of Microsoft names client and secret', async () => {
    expect(
      await jsonOf({ engine: 'gcp', role: 'batch', gcp: { account: 'static-account', issues: 'key' } }),
    ).toMatchObject({ type: 'service_account', client_email: 'batch@acme-project.iam.gserviceaccount.com' })
    const client = await jsonOf({ downstream: 'machines', engine: 'azure', role: 'contributor' })
    expect([...vault.clouds.azureSecrets]).toEqual([[client['client_id'], client['client_secret']]])
  })

  it.each([
    ['aws', { engine: 'aws', role: 'nobody' }, /Role "\.\.\." not found/],
    ['aws, which of its roles', { engine: 'aws', role: 'several', sts: {} }, /unable to determine one/],
    [
      'aws, one that it has not',
      { engine: 'aws', role: 'several', sts: { role_arn: `${ROLES}/root` } },
      /not in allowed role arns/,
    ],
    ['gcp', { engine: 'gcp', role: 'nobody' }, /does not exist/],
    ['gcp, of the other type', { engine: 'gcp', role: 'exporter' }, /cannot generate access token/],
    ['azure', { engine: 'azure', role: 'nobody' }, /does not exist/],
  ])(
    'fault 52, promise 9: what Vault refuses is said to admins in its words, without what it quotes: %s',
    async (_, given, words) => {
      await expect(obtain(given)).rejects.toMatchObject({
        code: 'secret_backend_refused',
        facts: {
          problem: expect.not.stringMatching(words) as string,
          answered: expect.stringMatching(words) as string,
        },
      })
      expect(await leases.list({})).toEqual([])
    },
  )

  it('promise 9: a mount that is not there is refused', async () => {
    await expect(obtain({ engine: 'gcp', role: 'viewer' }, {}, 'google')).rejects.toMatchObject({
      code: 'secret_backend_refused',
      facts: { answered: expect.stringContaining('no handler for route') as string },
    })
  })

  /** The session's own look-up of its token comes before it. */
  const answer = (data: unknown, more: object = {}) => ({
    status: 200,
    body: { lease_id: 'lease/1', lease_duration: 3600, renewable: true, data, ...more },
  })
  const encoded = (text: string) => Buffer.from(text).toString('base64')
  it.each([
    ['aws', answer({ access_key: 'AKIA1' })],
    ['aws', answer(null)],
    ['aws', answer({ access_key: 'AKIA1', secret_key: 'hidden-value' }, { lease_id: '' })],
    ['azure', answer({ client_id: 'c', client_secret: 7 })],
    ['key', answer({ private_key_data: 'hidden-value' })],
    ['key', answer({ private_key_data: encoded('hidden-value') })],
    ['key', answer({ private_key_data: encoded('{"type":"authorized_user"}') })],
    ['token', answer({ token: 'hidden-value' })],
    ['token', answer({ token: 'hidden-value', expires_at_seconds: 'soon' })],
  ])(
    'promise 5, promise 9: an answer of %s that is not as documented is one error without what was in it',
    async (of, spoilt) => {
      vault.spoil.push('pass', spoilt)
      const given = {
        aws: { engine: 'aws', role: 'uploader' },
        azure: { engine: 'azure', role: 'contributor' },
        key: { engine: 'gcp', role: 'exporter', gcp: { issues: 'key' } },
        token: { engine: 'gcp', role: 'viewer' },
      }[of as 'aws']
      const error = await obtain(given).catch((thrown: Error) => thrown)
      expect(error).toMatchObject({ code: 'secret_backend_unavailable' })
      expect(`${String(error)} ${JSON.stringify(error)} ${String((error as Error).stack)}`).not.toContain(
        'hidden-value',
      )
      expect(await leases.list({})).toEqual([])
    },
  )

  it('what was made and could not be read is ended', async () => {
    vault.spoil.push('pass', answer({ access_key: 'AKIA1' }))
    await expect(obtain({ engine: 'aws', role: 'uploader' })).rejects.toMatchObject({
      code: 'secret_backend_unavailable',
    })
    expect(vault.asked.at(-1)).toMatchObject({ path: 'sys/leases/revoke' })
  })

  it('a token that has expired is not handed out', async () => {
    vault.spoil.push('pass', answer({ token: 'ya29.old', expires_at_seconds: 1 }))
    await expect(obtain({ engine: 'gcp', role: 'viewer' })).rejects.toMatchObject({ code: 'secret_backend_refused' })
  })

  it('a file that names no engine means the database, and the settings of one engine do not stand beside another', async () => {
    expect(await jsonOf({ role: 'reader' })).toEqual({
      username: expect.any(String) as string,
      password: expect.any(String) as string,
    })
    expect((await leases.list({}))[0]).toMatchObject({ backend: 'vault', role: 'reader' })
    const problems = (given: object) =>
      engineProblems({ value: aDownstream({ role: 'r', ...given }), file: 'f', lineOf: () => 1 }).map(
        ({ message }) => message,
      )
    expect(problems({})).toEqual([])
    expect(problems({ role_kind: 'static' })).toEqual([])
    expect(problems({ sts: {} })).toEqual(['sts is of the engine aws, and this downstream is of database.'])
    expect(problems({ engine: 'aws', gcp: {}, postgres: { host: 'h', database: 'd' } })).toHaveLength(2)
    expect(problems({ engine: 'azure', role_kind: 'static' })).toEqual(['The engine azure has no static roles here.'])
    expect(problems({ engine: 'gcp', gcp: { account: 'impersonated-account', issues: 'key' } })).toEqual([
      'For an impersonated account Vault issues only tokens.',
    ])
    expect(kinds.dynamic.narrows(aDownstream({ engine: 'aws', role: 'r' }), undefined)).toEqual([])
  })
})
