import { decodeJwt } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Browser, createBrowser, type Page } from '../peers/walk.ts'
import { PASSWORD } from '../peers/openid-server.ts'
import { ACCESS_TOKEN, TOKEN_EXCHANGE } from '../support/daemon.ts'
import { registerClient, RESOURCE, startSignInWorld, type SignInWorld } from '../support/sign-in.ts'

const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code'

let world: SignInWorld
let client: string

beforeAll(async () => {
  world = await startSignInWorld(() => ({}), {
    rates: { device_codes_by_address: { requests: 40, per: '1m' } },
  })
  client = await registerClient(world, { grant_types: [DEVICE_GRANT, 'refresh_token'], client_name: 'Build box' })
})
afterAll(() => world?.close())

interface Started {
  readonly status: number
  readonly [member: string]: string | number | undefined
}

const post = async (path: string, fields: Record<string, string>): Promise<Started> => {
  const response = await fetch(`${world.url}${path}`, { method: 'POST', body: new URLSearchParams(fields) })
  const body = (await response.json()) as Record<string, string>
  return { ...body, status: response.status }
}
const start = () => post('/oauth2/device_authorization', { client_id: client, resource: RESOURCE })
const poll = (deviceCode: string) =>
  post('/oauth2/token', { grant_type: DEVICE_GRANT, client_id: client, device_code: deviceCode })

/** A page that goes on by itself: the answer to a form may not redirect elsewhere. */
const goOn = async (browser: Browser, page: Page): Promise<Page> => {
  const next = /http-equiv="refresh" content="0;url=([^"]+)"/.exec(page.body)?.[1]
  return next === undefined ? page : browser.open(next.replaceAll('&amp;', '&'))
}

/** Types the code and signs in. @returns the page on which the user decides */
const toConsent = async (userCode: string, user: string) => {
  const browser = createBrowser()
  const input = await browser.open(`${world.url}/device`)
  const confirm = await browser.submit(input, { user_code: userCode })
  let page = await goOn(browser, await browser.submit(confirm))
  for (let step = 0; step < 3 && page.url.startsWith(world.idp.url); step += 1)
    page = await browser.submit(
      page,
      page.body.includes('name="login"') ? { login: user, password: PASSWORD } : { decision: 'allow' },
    )
  return { browser, confirm, page }
}

describe('a program without a browser (RFC 8628)', () => {
  test('the metadata names it, and a user with a code signs the program in', async () => {
    const metadata = (await (await fetch(`${world.url}/.well-known/oauth-authorization-server`)).json()) as object
    expect(metadata).toMatchObject({ device_authorization_endpoint: `${world.url}/oauth2/device_authorization` })
    const started = await start()
    expect(started).toMatchObject({ status: 200, verification_uri: `${world.url}/device` })
    expect(started['user_code']).toMatch(/^[A-Z]{4}-[A-Z]{4}$/)
    expect(await poll(String(started['device_code']))).toMatchObject({ status: 400, error: 'authorization_pending' })

    const { browser, confirm, page } = await toConsent(
      String(started['user_code']).toLowerCase().replace('-', ' '),
      'alice',
    )
    expect(confirm.body).toContain(String(started['user_code']))
    expect(confirm.body).toContain('If someone has sent you the code')
    // Framed, such a page would be clicked by a user who sees another.
    expect(confirm.headers.get('content-security-policy')).toContain("frame-ancestors 'none'")
    expect(page.body).toContain('Build box runs on another device')
    expect(await poll(String(started['device_code']))).toMatchObject({ error: 'authorization_pending' })
    expect((await browser.submit(page, { decision: 'allow' })).body).toContain('goes on by itself')

    const tokens = await poll(String(started['device_code']))
    expect(tokens).toMatchObject({ status: 200 })
    expect(decodeJwt(String(tokens['access_token']))).toMatchObject({ sub: 'alice', tenant: 'acme', aud: RESOURCE })
    const exchanged = await world.daemon.token({
      grant_type: TOKEN_EXCHANGE,
      client_id: 'notes',
      subject_token: String(tokens['access_token']),
      subject_token_type: ACCESS_TOKEN,
      audience: 'api',
    })
    expect(exchanged).toMatchObject({ status: 200 })
    // Promise 3: which grant it was stands in the audit log.
    const { out } = await world.daemon.deputy('audit', 'query', '--event', 'client.token', '--json')
    expect(out).toContain(DEVICE_GRANT)
    // A code gives tokens once, and a second use ends what the first has given.
    expect(await poll(String(started['device_code']))).toMatchObject({ error: 'invalid_grant' })
    expect(
      await post('/oauth2/token', {
        grant_type: 'refresh_token',
        client_id: client,
        refresh_token: String(tokens['refresh_token']),
      }),
    ).toMatchObject({ error: 'invalid_grant' })
  })

  test('threat 11: a user who says no, at either page, gives the program nothing', async () => {
    const refused = await start()
    const { browser, page } = await toConsent(String(refused['user_code']), 'alice')
    expect((await browser.submit(page, { decision: 'deny' })).body).toContain('is not signed in')
    expect(await poll(String(refused['device_code']))).toMatchObject({ error: 'access_denied' })
    const aborted = await start()
    const other = createBrowser()
    const confirm = await other.submit(await other.open(String(aborted['verification_uri_complete'])))
    expect(confirm.body).toContain(String(aborted['user_code']))
    expect((await other.submit(confirm, { abort: 'yes' })).body).toContain('is not signed in')
    expect(await poll(String(aborted['device_code']))).toMatchObject({ error: 'access_denied' })
  })

  test('a form that is sent twice, or by another site, does nothing more', async () => {
    const started = await start()
    const { browser, confirm } = await toConsent(String(started['user_code']), 'alice')
    const again = await browser.submit(confirm)
    expect(again.body).toMatch(/was used already|This did not work/)
    const foreign = await fetch(`${world.url}/device`, {
      method: 'POST',
      body: new URLSearchParams({ xsrf: 'x', user_code: String(started['user_code']), confirm: 'yes' }),
    })
    expect(await foreign.text()).toContain('This page has expired, or this browser keeps no cookies')
  })

  test('guesses are bounded (RFC 8628 section 5.1)', async () => {
    const browser = createBrowser()
    const page = await browser.open(`${world.url}/device`)
    const answers = []
    for (let guess = 0; guess < 45; guess += 1)
      answers.push(await browser.submit(page, { user_code: `BCDF-GHJ${'KLMNPQRST'[guess % 9]}` }))
    expect(answers[0]!.body).toContain('There is no such code')
    expect(answers.at(-1)!.status).toBe(429)
    expect(await start()).toMatchObject({ status: 429 })
  })
})
