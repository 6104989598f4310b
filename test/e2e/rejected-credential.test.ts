import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { connectDeputy, type Deputy } from '../../src/sdk/index.ts'
import { startOAuthProvider, type OAuthProviderDouble } from '../doubles/oauth-provider.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  ask,
  startDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type Answer,
  type RunningDaemon,
  type TestIssuer,
} from '../support/daemon.ts'
import { downstreamFile, grantFiles, seedGrants } from '../support/grants.ts'

const PYTHON = '/usr/bin/python3'

let issuer: TestIssuer
let provider: OAuthProviderDouble
let service: Server
let url: string
let daemon: RunningDaemon
let deputy: Deputy
/** What the service takes; every other token is refused. */
let takes: (token: string) => boolean
const received: string[] = []

const USERS = ['alice', 'bob', 'carol', 'dora', 'erik', 'fred']

beforeAll(async () => {
  issuer = await startTestIssuer()
  provider = await startOAuthProvider()
  service = createServer((request, response) => {
    const token = (request.headers.authorization ?? '').replace('Bearer ', '')
    received.push(token)
    response.writeHead(takes(token) ? 200 : 401).end()
  })
  await new Promise<void>((resolve) => {
    service.listen(0, '127.0.0.1', resolve)
  })
  url = `http://127.0.0.1:${(service.address() as AddressInfo).port}`
  daemon = await startDaemonHere({
    ...aCompany({
      issuer: issuer.url,
      notes: {
        tenants: ['acme'],
        downstreams: { 'notes-api': { scopes: ['read'] }, ledger: { scopes: ['ledger:read'] } },
      },
    }),
    ...grantFiles(provider),
    'downstreams/notes-api.yaml': downstreamFile(provider, {
      client: { client_id: provider.client.id, client_secret: { file: 'client-secret' } },
      inject: { hosts: [url], as: { header: 'Authorization', value: 'Bearer {credential}' } },
    }),
  })
  await daemon.stop()
  await seedGrants(daemon.home, provider, USERS, { lifetime: 3_600_000 })
  await daemon.start()
  deputy = connectDeputy({ environment: { DEPUTY_SOCKET: daemon.socketPath } })
})
afterAll(async () => {
  deputy?.close()
  await daemon?.close()
  await provider?.close()
  await issuer?.close()
  service?.closeAllConnections()
  service?.close()
})
beforeEach(() => {
  received.length = 0
  provider.refreshes.splice(0)
  takes = () => true
})

const userToken = (sub: string, more: object = {}): Promise<string> =>
  issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub, ...more })
const exchange = async (sub: string, rejected?: string, more: Record<string, string> = {}): Promise<Answer> =>
  daemon.token({
    grant_type: TOKEN_EXCHANGE,
    subject_token: await userToken(sub),
    subject_token_type: ACCESS_TOKEN,
    audience: 'notes-api',
    ...more,
    ...(rejected === undefined ? {} : { rejected_token: rejected }),
  })
const tokenOf = ({ body }: Answer): string => String(body['access_token'])

describe('fault 20: a credential that the service refuses', () => {
  it('is refreshed once, and the user is asked to connect when the fresh one is refused; the records say why', async () => {
    const first = tokenOf(await exchange('alice'))
    const renewed = await exchange('alice', first)
    const second = tokenOf(renewed)
    expect([renewed.status, second === first]).toEqual([200, false])
    // It is dropped for requests without a report as well.
    expect(tokenOf(await exchange('alice'))).toBe(second)
    const over = await exchange('alice', second)
    expect(over).toMatchObject({
      status: 400,
      body: { error: 'interaction_required', reason: 'reconnect_required' },
    })
    expect(over.body['connect_url']).toMatch(/\/connect\//)
    await daemon.stop()
    await daemon.start()
    expect((await exchange('alice')).body['reason']).toBe('reconnect_required')
    expect(provider.refreshes).toHaveLength(1)
    const records = (await daemon.deputy('audit', 'export')).out
    expect(records).toContain('"rejected":true')
    for (const token of [first, second]) expect(records).not.toContain(token)
    expect((await daemon.deputy('explain', String(over.body['correlation_id']))).out).toMatch(/401/)
  })

  it("threat 20: only the token that this user's grant has now counts, and reports do not refresh without end", async () => {
    const [bob, carol] = [tokenOf(await exchange('bob')), tokenOf(await exchange('carol'))]
    expect(tokenOf(await exchange('carol', bob))).toBe(carol)
    expect(tokenOf(await exchange('carol', 'guessed'))).toBe(carol)
    expect(provider.refreshes).toHaveLength(0)
    const answers = await Promise.all(Array.from({ length: 30 }, () => exchange('bob', bob)))
    expect(new Set(answers.map(tokenOf)).size).toBe(1)
    for (let count = 0; count < 5; count += 1) await exchange('bob', bob)
    expect(provider.refreshes).toHaveLength(1)
    expect(tokenOf(await exchange('carol'))).toBe(carol)
    expect((await exchange('bob', 'x'.repeat(16_385))).body['reason']).toBe('malformed_request')
  })

  it('of a kind without a grant is made anew once', async () => {
    const subject = await userToken('gina', { groups: ['engineering'] })
    const minted = (rejected?: string): Promise<Answer> =>
      daemon.token({
        grant_type: TOKEN_EXCHANGE,
        subject_token: subject,
        subject_token_type: ACCESS_TOKEN,
        audience: 'ledger',
        scope: 'ledger:read',
        ...(rejected === undefined ? {} : { rejected_token: rejected }),
      })
    const first = tokenOf(await minted())
    expect(tokenOf(await minted())).toBe(first)
    const second = tokenOf(await minted(first))
    expect(second).not.toBe(first)
    for (let count = 0; count < 3; count += 1) expect(tokenOf(await minted(second))).toBe(second)
  })

  it('is reported by the SDK: one retry with a fresh token, then the connect link', async () => {
    const user = await userToken('dora')
    const old = (await deputy.token({ downstream: 'notes-api', onBehalfOf: user })).reveal()
    takes = (token) => token !== old
    const fetching = deputy.fetch('notes-api', user)
    expect((await fetching(url, { method: 'POST', body: 'x' })).status).toBe(200)
    expect([received.length, provider.refreshes.length]).toEqual([2, 1])
    takes = () => false
    await expect(fetching(url)).rejects.toMatchObject({
      reason: 'reconnect_required',
      connectUrl: expect.stringMatching(/\/connect\//),
    })
    expect(provider.refreshes).toHaveLength(1)
  })

  it.skipIf(!existsSync(PYTHON))('is reported by the Python client too', async () => {
    takes = () => false
    const script = `
import json, os
from deputy_client import connect_deputy, DeputyError
fetching = connect_deputy().fetch("notes-api", os.environ["USER_TOKEN"])
try: print(json.dumps([fetching(os.environ["SERVICE"]).status, None]))
except DeputyError as error: print(json.dumps([error.reason, error.connect_url]))
`
    const { stdout } = await promisify(execFile)(PYTHON, ['-c', script], {
      env: {
        PYTHONPATH: join(import.meta.dirname, '../../sdk/python'),
        DEPUTY_SOCKET: daemon.socketPath,
        USER_TOKEN: await userToken('erik'),
        SERVICE: url,
      },
    })
    expect(JSON.parse(stdout)).toEqual(['reconnect_required', expect.stringMatching(/\/connect\//)])
    expect([received.length, new Set(received).size, provider.refreshes.length]).toEqual([2, 2, 1])
  })

  it('is reported by the proxy, which passes the 401 on: the next request has a fresh token, then the connect link', async () => {
    takes = () => false
    const send = async (): Promise<Answer> =>
      ask(
        { socketPath: `${daemon.home}/run/proxy.sock` },
        { path: '/d/notes-api/me', headers: { 'deputy-subject-token': await userToken('fred') } },
      )
    expect(await send()).toMatchObject({ status: 401 })
    await expect.poll(() => provider.refreshes.length).toBe(1)
    await expect.poll(async () => (await send()).headers['deputy-error']).toBe('reconnect_required')
    expect([provider.refreshes.length, new Set(received).size]).toEqual([1, 2])
  })
})
