import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PASSWORD } from '../peers/openid-server.ts'
import { type Browser, createBrowser, type Page } from '../peers/walk.ts'
import {
  authorizationUrl,
  REDIRECT_URI,
  redeemCode,
  registerClient,
  startSignInWorld,
  type SignInWorld,
} from '../support/sign-in.ts'

let world: SignInWorld
let client: string

beforeAll(async () => {
  world = await startSignInWorld()
  client = await registerClient(world)
})
afterAll(() => world?.close())

const aBrowser = (): Browser => createBrowser({ stopAt: (url) => url.startsWith(`${REDIRECT_URI}?`) })

/** Signs in at the identity provider. @returns the consent page */
const toConsent = async (browser: Browser, url: string): Promise<Page> => {
  let page = await browser.open(url)
  for (let step = 0; step < 3 && page.url.startsWith(world.idp.url); step += 1)
    page = await browser.submit(
      page,
      page.body.includes('name="login"') ? { login: 'alice', password: PASSWORD } : { decision: 'allow' },
    )
  return page
}

/** A page that stays, with a sentence, a next step and the id under which the log has it. */
const expectPage = (page: Page, sentence: RegExp): void => {
  expect([page.status, page.url.startsWith(world.url)]).toEqual([400, true])
  expect(page.body).toMatch(sentence)
  expect(page.body).toContain('Correlation id')
  expect(page.body).not.toMatch(/Error:|\bat .*\.ts:/)
  expect(page.headers.get('content-security-policy')).toContain("frame-ancestors 'none'")
}

describe('promise 9: requests that cannot go on end on a page', () => {
  test.each([
    ['an unknown client', { client_id: 'dcr_unknown' }, /client is invalid|is not known|unknown/i],
    ['a client whose document is nowhere', { client_id: 'http://127.0.0.1:1/client' }, /invalid_client|client/],
    ['a wrong redirect', { redirect_uri: 'https://evil.example/callback' }, /redirect_uri/],
    ['a redirect that only begins alike', { redirect_uri: `${REDIRECT_URI}.evil.example` }, /redirect_uri/],
    ['a redirect with a user name', { redirect_uri: 'http://127.0.0.1@evil.example/callback' }, /redirect_uri/],
    ['a path below the redirect', { redirect_uri: `${REDIRECT_URI}/../other` }, /redirect_uri/],
  ])('threat 8: %s is never redirected', async (_, parameters, sentence) => {
    const page = await createBrowser({ stopAt: (url) => !url.startsWith(world.url) }).open(
      authorizationUrl(world, client, parameters).url,
    )
    expectPage(page, sentence)
  })

  test.each([
    ['an unknown resource', { resource: 'https://unknown.example/mcp' }, 'invalid_target'],
    ['threat 9: no proof of the code', { code_challenge: '', code_challenge_method: '' }, 'invalid_request'],
    ['threat 9: a plain proof', { code_challenge_method: 'plain' }, 'invalid_request'],
  ])('%s is told to the client, whose redirect is right', async (_, parameters, error) => {
    const page = await aBrowser().open(authorizationUrl(world, client, parameters).url)
    const { searchParams } = new URL(page.url)
    expect([page.url.startsWith(REDIRECT_URI), searchParams.get('error')]).toEqual([true, error])
    expect(searchParams.get('iss')).toBe(world.url)
    expect(searchParams.get('code')).toBeNull()
  })
})

describe('promise 9: a user who does things twice', () => {
  test('a form that is sent twice gives one code, and the back button leads to a page', async () => {
    const browser = aBrowser()
    const consent = await toConsent(browser, authorizationUrl(world, client).url)
    const back = await browser.submit(consent, { decision: 'allow' })
    expect(new URL(back.url).searchParams.get('code')).not.toBeNull()
    expectPage(await browser.submit(consent, { decision: 'allow' }), /has expired, or was used already/)
    // Back, to the address that the identity provider has sent the browser to.
    expectPage(await browser.open(consent.url), /has expired, or was used already/)
    // And to the page before that, whose cookie the browser still has.
    const interaction = /\/sign-in\/([\w-]+)\/consent/.exec(consent.body)![1]!
    expectPage(
      await browser.open(`${world.url}/sign-in/${interaction}`),
      /has expired, or was begun in another browser/,
    )
  })

  test('two tabs of one browser do not disturb each other', async () => {
    const browser = aBrowser()
    const [one, two] = [authorizationUrl(world, client), authorizationUrl(world, client)]
    const [first, second] = [await toConsent(browser, one.url), await toConsent(browser, two.url)]
    for (const [page, { verifier }] of [
      [second, two],
      [first, one],
    ] as const) {
      const back = new URL((await browser.submit(page, { decision: 'allow' })).url)
      expect(await redeemCode(world, { back, verifier, client })).toMatchObject({ status: 200 })
    }
  })
})

describe('threat 11: a window that drops cookies, or another browser', () => {
  test('a sign-in that comes back without its cookie stops at a page that says what to do', async () => {
    const browser = createBrowser({ stopAt: (url) => url.includes('/connect/signed-in?') })
    const page = await toConsent(browser, authorizationUrl(world, client).url)
    expect(page.url).toContain('/connect/signed-in?')
    const dropped = await createBrowser().open(page.url)
    expectPage(dropped, /did not keep the cookie/)
    expect(dropped.body).toContain('in your usual browser instead of a window inside another app')
    // The sign-in is over for the first window as well: what was shown once is not taken twice.
    expectPage(await browser.open(page.url), /has expired, or was used already/)
  })

  test('so does one that drops them on the way to the first page', async () => {
    const first = await fetch(authorizationUrl(world, client).url, { redirect: 'manual' })
    const page = await createBrowser().open(new URL(first.headers.get('location')!, world.url).href)
    expectPage(page, /did not keep the cookie/)
  })
})
