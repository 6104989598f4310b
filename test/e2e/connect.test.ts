import { readFile, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createBrowser, type Browser, type Page } from '../peers/walk.ts'
import { exchangeToken } from '../support/exchange-client.ts'
import { startWorld, type World } from '../../quickstart/world.ts'

let world: World
beforeAll(async () => {
  world = await startWorld(() => {})
  await writeFile(
    join(world.home, 'policies/access/everybody.cedar'),
    '@id("everybody-reads") permit (principal is Deputy::User, action == Deputy::Action::"oauth_grant", resource);',
    { mode: 0o600 },
  )
  expect((await world.deputy('reload')).code).toBe(0)
})
afterAll(async () => {
  await world?.close()
})

const ask = async (user: string, server: 'notes' | 'calendar' = 'notes'): Promise<Record<string, unknown>> => {
  const config = JSON.parse(await readFile(`${world.home}/${server}-server.json`, 'utf8')) as Parameters<
    typeof exchangeToken
  >[0]
  const accessToken = await world.token(user, server)
  return (
    await exchangeToken(config, {
      userToken: accessToken,
      downstream: 'notes-api',
      scope: 'notes:read',
      tool: 'list_notes',
    })
  ).body
}

const pass = async (browser: Browser, first: Page, user: string, url: string): Promise<Page> => {
  let page = first
  for (let at = 0; at < 3 && page.url.startsWith(url); at += 1)
    page = page.body.includes('name="login"')
      ? await browser.submit(page, { login: user })
      : await browser.submit(page, { decision: 'allow' })
  return page
}

describe('connecting', () => {
  it('threat 11: a link that somebody else opens stores nothing', async () => {
    const { connect_url: url } = await ask('alice')
    const browser = createBrowser()
    const page = await pass(browser, await browser.open(String(url)), 'bob', world.idp.url)
    expect(page.status).toBe(403)
    expect(page.body).toContain('a user other than the one who is signed in')
    expect(JSON.parse((await world.deputy('grant', 'list', '--json')).out)).toEqual([])
  })

  it('fault 73: a user with another session at the identity provider can sign in anew, and continues where the link leads', async () => {
    const { connect_url: url } = await ask('alice')
    const browser = createBrowser()
    const wrong = await pass(browser, await browser.open(String(url)), 'bob', world.idp.url)
    // The identity provider knows bob, and says so again.
    const again = await pass(browser, await browser.open(String(url)), 'bob', world.idp.url)
    expect(again.body).toContain('a user other than the one who is signed in')
    const other = /<a href="([^"]+)">Use another account<\/a>/.exec(wrong.body)?.[1]
    expect(other).toBe(`${new URL(String(url)).pathname}?account=other`)
    const signIn = await browser.open(new URL(other!, world.connectUrl).href)
    expect(signIn.body).toContain('name="login"')
    expect((await pass(browser, signIn, 'alice', world.idp.url)).body).toContain('Notes assistant')
  })

  it('the consent page names who asks, what for and where to; it has no scripts and cannot be framed', async () => {
    const { connect_url: url } = await ask('alice')
    const browser = createBrowser()
    const page = await pass(browser, await browser.open(String(url)), 'alice', world.idp.url)
    for (const text of ['Notes assistant', 'notes@acme.example', 'Read your notes', new URL(world.service.url).host])
      expect(page.body).toContain(text)
    expect(page.headers.get('content-security-policy')).toMatch(/default-src 'none'.*frame-ancestors 'none'/)
    expect(page.body).not.toContain('<script')
    const denied = await browser.submit(page, { decision: 'deny' })
    expect(denied.body).toContain('Nothing was connected')
    expect((await browser.submit(page, { decision: 'allow' })).body).toContain('used already')
  })

  it("threats 7 and 16, requirement 24: a value of one step is not another's, and a wrong issuer is refused before the code is redeemed", async () => {
    const { connect_url: url } = await ask('alice')
    const link = String(url).split('/').at(-1)!
    const browser = createBrowser({ stopAt: (to) => to.includes('/connect/callback') })
    expect((await browser.open(`${world.connectUrl}/connect/callback?state=${link}&code=x`)).url).toContain('callback')
    const plain = createBrowser()
    expect((await plain.open(`${world.connectUrl}/connect/callback?state=${link}&code=x`)).status).toBe(400)
    let page = await pass(browser, await browser.open(String(url)), 'alice', world.idp.url)
    page = await browser.submit(page, { decision: 'allow' })
    page = await pass(browser, page, 'alice-notes', world.service.url)
    const back = new URL(page.url)
    expect(back.searchParams.get('iss')).toBe(world.service.url)
    back.searchParams.set('iss', 'https://evil.example')
    back.searchParams.set('error_description', 'phishing')
    const follow = createBrowser()
    for (const cookie of await browser.jar.getCookies(world.connectUrl))
      await follow.jar.setCookie(cookie, world.connectUrl)
    const refused = await follow.open(back.href)
    expect(refused.status).toBe(400)
    expect(refused.body).not.toContain('phishing')
  })

  it('promise 6, requirement 25: a grant is refreshed once however many ask, and its rotated refresh token is kept', async () => {
    const { connect_url: url } = await ask('alice')
    const browser = createBrowser()
    let page = await pass(browser, await browser.open(String(url)), 'alice', world.idp.url)
    if (page.url.startsWith(world.connectUrl)) page = await browser.submit(page, { decision: 'allow' })
    page = await pass(browser, page, 'alice-notes', world.service.url)
    expect(page.body).toContain('Connected')
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask('alice')))
    expect(new Set(answers.map(({ access_token: token }) => token)).size).toBe(1)
  })

  it('threat 10: consent is for one server: with the same browser another one is asked about by its own name', async () => {
    const browser = createBrowser()
    let page = await pass(browser, await browser.open(String((await ask('bob')).connect_url)), 'bob', world.idp.url)
    expect(page.body).toContain('Notes assistant')
    page = await browser.submit(page, { decision: 'allow' })
    page = await pass(browser, page, 'bob-notes', world.service.url)
    expect(page.body).toContain('Connected')
    const other = await ask('bob', 'calendar')
    expect(other.reason).toBe('interaction_required')
    page = await pass(browser, await browser.open(String(other.connect_url)), 'bob', world.idp.url)
    expect(page.url.startsWith(world.connectUrl)).toBe(true)
    expect(page.body).toContain('Calendar assistant')
    expect((await browser.submit(page, { decision: 'deny' })).body).toContain('Nothing was connected')
    expect((await ask('bob', 'calendar')).reason).toBe('interaction_required')
  })

  it('promise 9: an address that cannot be read is refused without a word about the inside', async () => {
    for (const path of ['/connect/%zz', '/login/%', '/status/%zz', '/clients/%zz', '/%c0%ae']) {
      const response = await fetch(`${world.connectUrl}${path}`)
      expect([path, response.status < 500, /at .*\.(js|ts)|node_modules/.test(await response.text())]).toEqual([
        path,
        true,
        false,
      ])
    }
  })

  it('threat 8, requirement 24: no address makes the pages send a browser anywhere but to the identity provider and the service', async () => {
    const targets = [
      'https://evil.example',
      '//evil.example',
      '@@evil.example',
      '..;/evil.example',
      'javascript:alert(1)',
      'JaVaScRiPt:alert(1)',
      '%2F%2Fevil.example',
      '\\\\evil.example',
      '%0d%0aLocation:%20https://evil.example',
    ]
    const paths = [
      '/connect/',
      '/connect/callback',
      '/connect/callback?state=',
      '/connect/signed-in?state=',
      '/login/',
      '/?redirect_uri=',
      '/connect/x?return_to=',
      '/connect/consent?next=',
    ]
    for (const target of targets)
      for (const path of paths) {
        const response = await fetch(`${world.connectUrl}${path}${target.startsWith('..') ? `/${target}` : target}`, {
          redirect: 'manual',
        })
        expect([path, target, response.status >= 400, response.headers.get('location')]).toEqual([
          path,
          target,
          true,
          null,
        ])
      }
    const link = new URL(String((await ask('alice', 'calendar')).connect_url))
    link.search = '?redirect_uri=https://evil.example&return_to=//evil.example'
    const first = await fetch(link, { redirect: 'manual' })
    const to = new URL(first.headers.get('location')!)
    expect([to.origin, to.href.includes('evil')]).toEqual([world.idp.url, false])
    for (const host of ['evil.example', `127.0.0.1.evil.example:${new URL(world.connectUrl).port}`]) {
      const { status } = await raw(new URL(world.connectUrl).port, link.pathname, host)
      expect(status).toBe(403)
    }
  })
})

const raw = (port: string, path: string, host: string): Promise<{ status: number }> =>
  new Promise((resolve, reject) => {
    request({ host: '127.0.0.1', port, path, headers: { host } }, (response) => {
      response.resume()
      resolve({ status: response.statusCode ?? 0 })
    })
      .on('error', reject)
      .end()
  })
