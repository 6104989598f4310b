import { readdir, readFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { grantRecordName } from '../../src/foundation/store/records/grants.ts'
import { startOAuthProvider, type OAuthProviderDouble } from '../doubles/oauth-provider.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  prepareDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type Answer,
  type DaemonHere,
  type TestIssuer,
} from '../support/daemon.ts'
import { grantFiles, openState, seedGrants } from '../support/grants.ts'

let issuer: TestIssuer
let provider: OAuthProviderDouble
let daemon: DaemonHere

/** A daemon that has a grant of alice's whose access token has expired. */
beforeEach(async () => {
  issuer = await startTestIssuer()
  provider = await startOAuthProvider()
  daemon = await prepareDaemonHere(
    {
      ...aCompany({ issuer: issuer.url, notes: { downstreams: { 'notes-api': { scopes: ['read'] } } } }),
      ...grantFiles(provider),
    },
    { network: { allow_loopback: true, timeout: '3s' } },
  )
  await seedGrants(daemon.home, provider, ['alice'])
  await daemon.start()
})
afterEach(async () => {
  await daemon?.close()
  await provider?.close()
  await issuer?.close()
})

const form = async (): Promise<Record<string, string>> => ({
  grant_type: TOKEN_EXCHANGE,
  subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme' }),
  subject_token_type: ACCESS_TOKEN,
  audience: 'notes-api',
  scope: 'read',
})
const exchange = async (): Promise<Answer> => daemon.token(await form())
const until = async (condition: () => boolean): Promise<void> => {
  await expect.poll(condition, { interval: 10 }).toBe(true)
}

describe('a refresh in the daemon', () => {
  it('promise 6, threat 20, requirement 25: one for a hundred requests at once; a caller that goes away does not end it', async () => {
    let release = (): void => undefined
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    provider.duringRefresh = () => held
    const body = new URLSearchParams(await form()).toString()
    const gone = request({
      socketPath: daemon.socketPath,
      path: '/oauth2/token',
      method: 'POST',
      headers: { host: 'localhost', 'content-type': 'application/x-www-form-urlencoded' },
    })
    gone.on('error', () => undefined).end(body)
    await until(() => provider.refreshes.length === 1)
    gone.destroy()
    const answers = Promise.all(Array.from({ length: 100 }, () => exchange()))
    setTimeout(release, 200)
    expect(
      new Set((await answers).map(({ status, body: { access_token: token } }) => `${status} ${String(token)}`)).size,
    ).toBe(1)
    expect(provider.refreshes).toHaveLength(1)
  })

  it('threat 21, requirement 24: whose process is killed in the middle is tried once more, and not again', async () => {
    provider.duringRefresh = () =>
      new Promise((resolve) => {
        setTimeout(resolve, 300)
      })
    const { kill } = await daemon.moveToProcess()
    const lost = exchange().catch(() => undefined)
    await until(() => provider.refreshes.length === 1)
    await kill()
    await lost
    // The provider has acted and ended the kept token, so its use is taken for theft: the user connects again.
    await new Promise((resolve) => {
      setTimeout(resolve, 400)
    })
    provider.duringRefresh = () => undefined
    await daemon.start()
    const { body } = await exchange()
    expect([body['reason'], body['error']]).toEqual(['reconnect_required', 'interaction_required'])
    expect(body['connect_url']).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/connect\//)
    for (let turn = 0; turn < 3; turn += 1) await exchange()
    expect(provider.refreshes).toHaveLength(2)
    const story = (await daemon.deputy('explain', String(body['correlation_id']))).out
    expect(story).toContain('invalid_grant')
  })

  it('promise 5, threats 4 and 18: its tokens and the client secret are in no log, record, error or file', async () => {
    const { body } = await exchange()
    expect(body['access_token']).toMatch(/^access-/)
    const secrets = [provider.client.secret, provider.refreshes[0]!['refresh_token']!]
    await daemon.stop()
    const { store, envelope } = await openState(daemon.home)
    const [grant] = await store.grants.list({})
    const current = (await envelope.open(grantRecordName(grant!), grant!.sealed)).reveal()
    secrets.push((JSON.parse(current) as { refresh_token: string }).refresh_token)
    await store.close()
    await daemon.start()
    const state = join(daemon.home, 'state')
    const files = await Promise.all(
      (await readdir(state, { recursive: true, withFileTypes: true }))
        .filter((entry) => entry.isFile())
        .map((entry) => readFile(join(entry.parentPath, entry.name), 'latin1')),
    )
    const records = (await daemon.deputy('audit', 'export')).out
    for (const text of [...files, records, daemon.output()])
      for (const secret of secrets) expect(text.includes(secret)).toBe(false)
    expect(records).toContain('token.exchange')
    expect(daemon.output()).toContain('deputy is ready')
  })

  it('fault 3, promise 1: a refresh that answers more scopes than asked is refused as often as it is asked for, also after a restart', async () => {
    provider.more = { scope: 'read write admin' }
    const answers = [await exchange(), await exchange()]
    await daemon.stop()
    await daemon.start()
    answers.push(await exchange())
    expect(answers.map(({ status, body }) => [status, body['reason']])).toEqual(
      answers.map(() => [400, 'scope_not_narrowable']),
    )
    // What the provider said of the token is known, here and after the restart: it is asked to narrow.
    expect(provider.refreshes.map(({ scope }) => scope)).toEqual([undefined, 'read', 'read'])
  })

  it('fault 3: scopes that only say who the user is are no surplus, unless the downstream gives them a meaning', async () => {
    provider.more = { scope: 'openid read profile offline_access' }
    expect(await exchange()).toMatchObject({ status: 200, body: { scope: 'read' } })
    await daemon.stop()
    await daemon.start()
    expect(await exchange()).toMatchObject({ status: 200, body: { scope: 'read' } })
    expect(provider.refreshes).toHaveLength(1)
  })
})
