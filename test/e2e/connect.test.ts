import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { signIn } from '../peers/company-idp.ts'
import { PASSWORD } from '../peers/openid-server.ts'
import { createBrowser, type Browser, type Page } from '../peers/walk.ts'
import { exchangeToken } from '../../quickstart/deputy-client.ts'
import { startWorld, type World } from '../../quickstart/world.ts'
import { readFile } from 'node:fs/promises'

let world: World
beforeAll(async () => { world = await startWorld(() => {}) })
afterAll(async () => { await world?.close() })

const ask = async (user: string): Promise<Record<string, unknown>> => {
  const config = JSON.parse(await readFile(`${world.home}/notes-server.json`, 'utf8')) as Parameters<typeof exchangeToken>[0]
  const { accessToken } = await signIn({ idp: world.idp, user, resource: world.servers.notes.url })
  return (await exchangeToken(config, { userToken: accessToken, downstream: 'notes-api', scope: 'notes:read', tool: 'list_notes' })).body
}

const pass = async (browser: Browser, first: Page, user: string, url: string): Promise<Page> => {
  let page = first
  for (let at = 0; at < 3 && page.url.startsWith(url); at += 1) page = page.body.includes('name="login"') ? await browser.submit(page, { login: user, password: PASSWORD }) : await browser.submit(page, { decision: 'allow' })
  return page
}

describe('connecting', () => {
  it('threat 11: a link that somebody else opens stores nothing', async () => {
    const { connect_url: url } = await ask('alice')
    const browser = createBrowser()
    const page = await pass(browser, await browser.open(String(url)), 'bob', world.idp.url)
    expect(page.status).toBe(403)
    expect(page.body).toContain('another user')
    expect(JSON.parse((await world.deputy('grant', 'list', '--json')).out)).toEqual([])
  })

  it('the consent page names who asks, what for and where to; it has no scripts and cannot be framed', async () => {
    const { connect_url: url } = await ask('alice')
    const browser = createBrowser()
    const page = await pass(browser, await browser.open(String(url)), 'alice', world.idp.url)
    for (const text of ['Notes assistant', 'notes@acme.example', 'Read your notes', new URL(world.service.url).host]) expect(page.body).toContain(text)
    expect(page.headers.get('content-security-policy')).toMatch(/default-src 'none'.*frame-ancestors 'none'/)
    expect(page.body).not.toContain('<script')
    const denied = await browser.submit(page, { decision: 'deny' })
    expect(denied.body).toContain('Nothing was connected')
    expect((await browser.submit(page, { decision: 'allow' })).body).toContain('used already')
  })

  it('threat 16: a value of one step is not another\'s, and threat 7: a wrong issuer is refused before the code is redeemed', async () => {
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
    for (const cookie of await browser.jar.getCookies(world.connectUrl)) await follow.jar.setCookie(cookie, world.connectUrl)
    const refused = await follow.open(back.href)
    expect(refused.status).toBe(400)
    expect(refused.body).not.toContain('phishing')
  })

  it('promise 6: a grant is refreshed once however many ask, and its rotated refresh token is kept', async () => {
    const { connect_url: url } = await ask('alice')
    const browser = createBrowser()
    let page = await pass(browser, await browser.open(String(url)), 'alice', world.idp.url)
    if (page.url.startsWith(world.connectUrl)) page = await browser.submit(page, { decision: 'allow' })
    page = await pass(browser, page, 'alice-notes', world.service.url)
    expect(page.body).toContain('Connected')
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask('alice')))
    expect(new Set(answers.map(({ access_token: token }) => token)).size).toBe(1)
  })
})
