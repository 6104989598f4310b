import { decodeJwt } from 'jose'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { PASSWORD } from '../peers/openid-server.ts'
import { createBrowser, type Browser, type Page } from '../peers/walk.ts'
import {
  authorizationUrl,
  redeemCode,
  REDIRECT_URI,
  refreshTokens,
  registerClient,
  signInAtClient,
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

const passAs = async (browser: Browser, first: Page, user: string): Promise<Page> => {
  let page = first
  for (let form = 0; form < 4 && page.body.includes('<form'); form += 1)
    page = await browser.submit(
      page,
      page.body.includes('name="login"') ? { login: user, password: PASSWORD } : { decision: 'allow' },
    )
  return page
}
const valueOf = (line: string): string => line.split(';')[0]!

/** Begins a sign-in as a client does, and keeps the cookies. */
const begin = async () => {
  const { url, verifier } = authorizationUrl(world, client)
  const begun = await fetch(url, { redirect: 'manual' })
  const at = new URL(begun.headers.get('location')!, url).href
  return { at, verifier, cookies: begun.headers.getSetCookie(), interaction: at.split('/').at(-1)! }
}

test('threat 9: a sign-in whose cookie was planted in the browser of another goes on in no other browser', async () => {
  const { at, cookies, interaction } = await begin()
  const victim = createBrowser({ stopAt: (url) => url.startsWith(`${REDIRECT_URI}?`) })
  for (const line of cookies.filter((each) => /^deputy_sign_in(\.sig)?=/.test(each)))
    await victim.jar.setCookie(line, at)
  await passAs(victim, await victim.open(at), 'alice')
  const resumed = await fetch(`${world.url}/oauth2/authorize/${interaction}`, {
    redirect: 'manual',
    headers: { cookie: cookies.map(valueOf).join('; ') },
  })
  expect([resumed.status, resumed.headers.get('location')]).toEqual([400, null])
  expect(await resumed.text()).toContain('another browser')
})

test('one consent gives one code, however often the browser goes on at once', async () => {
  const { at, cookies, verifier } = await begin()
  const browser = createBrowser({ stopAt: (url) => url.includes('/oauth2/authorize/') })
  for (const line of cookies) await browser.jar.setCookie(line, at, { ignoreError: true })
  const page = await passAs(browser, await browser.open(at), 'alice')
  const own = await browser.jar.getCookieString(at)
  const header = [...cookies.map(valueOf), own].join('; ')
  const answers = await Promise.all(
    Array.from({ length: 8 }, () => fetch(page.url, { redirect: 'manual', headers: { cookie: header } })),
  )
  const codes = answers.flatMap(({ headers }) => {
    const code = URL.parse(headers.get('location') ?? '')?.searchParams.get('code')
    return code == null ? [] : [code]
  })
  expect(codes).toHaveLength(1)
  const back = new URL(`${REDIRECT_URI}?code=${codes[0]}`)
  expect(await redeemCode(world, { back, verifier, client })).toMatchObject({ status: 200 })
})

test('requests that begin a sign-in are bounded in size, and pages of the library are in no frame', async () => {
  const { url } = authorizationUrl(world, client, { state: 'x'.repeat(9000) })
  const page = await fetch(url, { redirect: 'manual' })
  expect([page.status, page.headers.get('x-frame-options')]).toEqual([413, 'DENY'])
  const pushed = await fetch(`${world.url}/oauth2/par`, { method: 'POST', body: new URL(url).searchParams })
  expect(pushed.status).toBe(413)
  const preflight = await fetch(`${world.url}/oauth2/token`, {
    method: 'OPTIONS',
    headers: { origin: 'https://app.example', 'access-control-request-method': 'POST' },
  })
  expect(preflight.status).toBeLessThan(300)
})

test('threat 15: a user whom the files no longer call the tenant’s, or who no longer signs in there, gets no tokens', async () => {
  const tokens = await signInAtClient(world, client)
  const issuer = { issuer: world.idp.issuer, algorithms: ['ES256'] }
  const signIn = { issuer: world.idp.issuer, client_id: 'deputy', client_secret: { file: 'secrets/sign-in' } }
  const write = async (tenant: object): Promise<void> => {
    await world.daemon.write({ 'tenants/acme.yaml': { tenant: 'acme', ...tenant } })
    expect((await world.daemon.deputy('reload')).code).toBe(0)
  }
  await write({ issuers: [{ ...issuer, claims: { tenant: { claim: 'org', value: 'acme' } } }], sign_in: signIn })
  expect(await refreshTokens(world, client, tokens.refresh_token!)).toMatchObject({ error: 'invalid_grant' })
  await write({ issuers: [issuer], sign_in: signIn })
  const next = await refreshTokens(world, client, tokens.refresh_token!)
  expect(decodeJwt(next.access_token!).sub).toBe('alice')
})
