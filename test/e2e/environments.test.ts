import { cp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { decodeJwt } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse, stringify } from 'yaml'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  prepareDaemonHere,
  startDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type RunningDaemon,
  type Files,
  type TestIssuer,
} from '../support/daemon.ts'

const ENVIRONMENTS = ['development', 'staging', 'production'] as const
const ledger = (environment: string): object => ({
  downstream: 'ledger',
  environment,
  credential: 'minted',
  resource: `https://ledger.${environment}.example/api`,
  scopes: { 'ledger:read': 'Read', 'ledger:write': 'Write' },
})

describe('one folder of files for three environments', () => {
  let issuer: TestIssuer
  const daemons: RunningDaemon[] = []
  let files: Files
  beforeAll(async () => {
    issuer = await startTestIssuer()
    const { 'downstreams/ledger.yaml': _, ...company } = aCompany({ issuer: issuer.url })
    files = {
      ...company,
      ...Object.fromEntries(
        ENVIRONMENTS.map((environment) => [`downstreams/ledger.${environment}.yaml`, ledger(environment)]),
      ),
      'policies/access/more.cedar':
        '@id("nobody-writes-in-production")\nforbid (principal, action, resource == Deputy::Downstream::"ledger") when { context.environment == "production" && context.scopes.contains("ledger:write") };\n@id("developers-write")\npermit (principal in Deputy::Group::"acme/engineering", action, resource == Deputy::Downstream::"ledger") when { context.environment == "development" };',
    }
    for (const environment of ENVIRONMENTS) daemons.push(await startDaemonHere(files, { environment }))
  })
  afterAll(async () => {
    for (const each of daemons) await each.close()
    await issuer?.close()
  })
  const ask = async (daemon: RunningDaemon, scope: string) =>
    daemon.token({
      grant_type: TOKEN_EXCHANGE,
      subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme' }),
      subject_token_type: ACCESS_TOKEN,
      audience: 'ledger',
      scope,
    })

  it('gives a server that knows nothing of them the downstream of its own, and asks the policies of its own', async () => {
    const tokens = await Promise.all(daemons.map((daemon) => ask(daemon, 'ledger:read')))
    expect(tokens.map(({ body }) => decodeJwt(String(body['access_token'])).aud)).toEqual(
      ENVIRONMENTS.map((environment) => `https://ledger.${environment}.example/api`),
    )
    expect(
      (await Promise.all(daemons.map((daemon) => ask(daemon, 'ledger:write')))).map(({ status }) => status),
    ).toEqual([200, 403, 403])
  })

  it('promise 8: what is meant for one never answers for another', async () => {
    for (const daemon of daemons) {
      const own = ENVIRONMENTS[daemons.indexOf(daemon)]!
      for (const environment of ENVIRONMENTS) {
        const { status } = await daemon.token({
          grant_type: TOKEN_EXCHANGE,
          subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme' }),
          subject_token_type: ACCESS_TOKEN,
          resource: `https://ledger.${environment}.example/api`,
          scope: 'ledger:read',
        })
        expect([own, environment, status]).toEqual([own, environment, own === environment ? 200 : 400])
      }
    }
  })

  it('promise 8: a store belongs to one environment, and a daemon does not change its own while it runs', async () => {
    const [development] = daemons
    const path = join(development!.home, 'deputy.yaml')
    const before = await readFile(path, 'utf8')
    await writeFile(path, stringify({ ...(parse(before) as object), environment: 'production' }))
    expect((await development!.deputy('reload')).out).toContain('its store belongs to that environment')
    expect(decodeJwt(String((await ask(development!, 'ledger:read')).body['access_token'])).aud).toBe(
      'https://ledger.development.example/api',
    )
    await writeFile(path, before)

    await development!.stop()
    const other = await prepareDaemonHere(files, { environment: 'production' })
    await rm(join(other.home, 'state'), { recursive: true })
    await cp(join(development!.home, 'state'), join(other.home, 'state'), { recursive: true, preserveTimestamps: true })
    await expect(other.start()).rejects.toThrow(/the store belongs to the environment development/)
    await other.close()
    await development!.start()
  })

  it('says twice what one environment says twice', async () => {
    await daemons[1]!.write({ 'downstreams/again.yaml': ledger('staging') })
    expect((await daemons[1]!.deputy('check')).out).toContain('downstream ledger is defined in')
    await rm(join(daemons[1]!.home, 'downstreams/again.yaml'))
    expect((await daemons[1]!.deputy('check')).code).toBe(0)
  })
})
