import { decodeJwt } from 'jose'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PASSWORD } from '../peers/openid-server.ts'
import { createBrowser, type Browser, type Page } from '../peers/walk.ts'
import {
  authorizationUrl,
  authorize,
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

describe('RFC 9700, the best current practice for OAuth', () => {
  test.each([
    ['another verifier', { code_verifier: 'x'.repeat(43) }, 'invalid_grant'],
    ['no verifier', { code_verifier: '' }, 'invalid_grant'],
    ['another redirect URI', { redirect_uri: 'http://127.0.0.1:2/callback' }, 'invalid_grant'],
    ['another resource', { resource: 'https://other.example/mcp' }, 'invalid_target'],
  ])('threat 9: a code with %s gives nothing', async (_what, fields, error) => {
    const refused = await redeemCode(world, await authorize(world, client), fields)
    expect([refused.status, refused.error, refused.access_token]).toEqual([400, error, undefined])
  })

  test('threat 9: a code gives nothing to another client, and a second use of it ends what the first has given', async () => {
    const authorization = await authorize(world, client)
    const stolen = { ...authorization, client: await registerClient(world) }
    expect(await redeemCode(world, stolen)).toMatchObject({ status: 400, error: 'invalid_grant' })
    const other = await authorize(world, client)
    const tokens = await redeemCode(world, other)
    expect(tokens).toMatchObject({ status: 200 })
    expect(await redeemCode(world, other)).toMatchObject({ status: 400, error: 'invalid_grant' })
    expect(await refreshTokens(world, client, tokens.refresh_token!)).toMatchObject({ error: 'invalid_grant' })
  })

  test('there is no password grant, and no token comes through the browser', async () => {
    const fields = { grant_type: 'password', username: 'alice', password: PASSWORD, client_id: client }
    const answer = await fetch(`${world.url}/oauth2/token`, { method: 'POST', body: new URLSearchParams(fields) })
    expect([answer.status, ((await answer.json()) as { error: string }).error]).toEqual([400, 'unsupported_grant_type'])
    for (const type of ['token', 'id_token', 'code token', 'code id_token']) {
      const begun = await fetch(authorizationUrl(world, client, { response_type: type }).url, { redirect: 'manual' })
      expect(begun.headers.get('location')).toMatch(/error=unsupported_response_type/)
    }
  })

  test('addresses are those of the settings, whatever a request or a proxy says', async () => {
    const headers = { 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'https', forwarded: 'host=evil.example' }
    for (const path of ['/.well-known/oauth-authorization-server', '/.well-known/openid-configuration']) {
      const metadata = await fetch(`${world.url}${path}`, { headers })
      expect(await metadata.json()).toMatchObject({ token_endpoint: `${world.url}/oauth2/token`, issuer: world.url })
    }
    const { url } = authorizationUrl(world, client)
    const begun = await fetch(url, { redirect: 'manual', headers })
    expect(new URL(begun.headers.get('location')!, url).origin).toBe(world.url)
  })

  test('redirects change POST into GET; pages are in no frame, send no Referer, and answer no script of another origin', async () => {
    const { url } = authorizationUrl(world, client)
    const begun = await fetch(url, { redirect: 'manual', headers: { origin: 'https://app.example' } })
    expect([begun.status, begun.headers.get('access-control-allow-origin')]).toEqual([303, null])
    const browser = createBrowser({ stopAt: (at) => at.startsWith(`${REDIRECT_URI}?`) })
    let page = await browser.open(url)
    while (!page.url.startsWith(world.url))
      page = await browser.submit(
        page,
        page.body.includes('name="login"') ? { login: 'alice', password: PASSWORD } : { decision: 'allow' },
      )
    const device = await fetch(`${world.url}/device`)
    const refused = await fetch(authorizationUrl(world, 'dcr_unknown').url)
    for (const { headers } of [page, device, refused])
      expect([
        headers.get('x-frame-options'),
        headers.get('content-security-policy'),
        headers.get('referrer-policy'),
        headers.get('cache-control'),
      ]).toEqual([
        'DENY',
        expect.stringContaining("frame-ancestors 'none'"),
        expect.stringMatching(/no-referrer|same-origin/),
        expect.stringContaining('no-store'),
      ])
  })
})
