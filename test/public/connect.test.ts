import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { exchangeToken } from '../support/exchange-client.ts'
import { startWorld, type World } from '../../quickstart/world.ts'
import { CONTRASTS, findChromium, passPeer, startChromium } from '../support/chromium.ts'

const executable = findChromium()
let world: World
let browser: Browser
let context: BrowserContext
let page: Page
/** What a page may not do: console errors (a violated policy is one) and requests to anywhere else. */
let complaints: string[]
let visited: Set<string>

const openBrowser = async (): Promise<void> => {
  context = await browser.newContext()
  page = await context.newPage()
  complaints = []
  visited = new Set()
  page.on('console', (message) => {
    if (message.type() === 'error' && !message.location().url.endsWith('/favicon.ico')) complaints.push(message.text())
  })
  page.on('pageerror', (error) => complaints.push(String(error)))
  page.on('request', (request) => {
    visited.add(new URL(request.url()).origin)
  })
}

const linkFor = async (user: string): Promise<string> => {
  const config = JSON.parse(await readFile(`${world.home}/notes-server.json`, 'utf8')) as Parameters<
    typeof exchangeToken
  >[0]
  const accessToken = await world.token(user, 'notes')
  return String(
    (
      await exchangeToken(config, {
        userToken: accessToken,
        downstream: 'notes-api',
        scope: 'notes:read',
        tool: 'list_notes',
      })
    ).body['connect_url'],
  )
}

const toConsent = async (user = 'alice'): Promise<void> => {
  await page.goto(await linkFor(user))
  await passPeer(page, user, world.idp.url)
}
const grants = async (): Promise<unknown[]> =>
  JSON.parse((await world.deputy('grant', 'list', '--json')).out) as unknown[]

describe.skipIf(executable === undefined)('the connect pages in a real browser', () => {
  beforeAll(async () => {
    world = await startWorld(() => {})
    await writeFile(
      join(world.home, 'policies/access/everybody.cedar'),
      'permit (principal is Deputy::User, action, resource);',
      { mode: 0o600 },
    )
    await world.deputy('reload')
    browser = await startChromium(executable!)
  })
  afterAll(async () => {
    await browser?.close()
    await world?.close()
  })
  beforeEach(openBrowser)
  afterEach(async () => {
    await context?.close()
  })

  it('threat 11: a link opened by somebody else stores nothing, and says why', async () => {
    await page.goto(await linkFor('alice'))
    await passPeer(page, 'bob', world.idp.url)
    expect(await page.locator('h1').textContent()).toBe('This did not work')
    expect(await page.locator('main').textContent()).toContain('a user other than the one who is signed in')
    expect(await grants()).toEqual([])
  })

  it('denying stores nothing', async () => {
    await toConsent()
    await Promise.all([page.waitForNavigation(), page.getByRole('button', { name: 'Do not allow' }).click()])
    expect(await page.locator('h1').textContent()).toBe('Nothing was connected')
    expect(await grants()).toEqual([])
  })

  it('can be used by keyboard, by a screen reader, on a narrow screen, and can be read', async () => {
    await toConsent()
    expect(await page.locator('html').getAttribute('lang')).toBe('en')
    expect([await page.locator('h1').count(), await page.locator('main').count(), await page.title()]).toEqual([
      1,
      1,
      'Connect Notes? · Deputy',
    ])
    expect(await page.getByRole('checkbox', { name: /Read your notes/ }).isChecked()).toBe(true)
    expect(await page.getByRole('group', { name: 'It may' }).count()).toBe(1)
    await page.setViewportSize({ width: 320, height: 640 })
    expect(await page.evaluate('document.documentElement.scrollWidth <= document.documentElement.clientWidth')).toBe(
      true,
    )
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme })
      for (const [text, contrast] of (await page.evaluate(CONTRASTS)) as [string, number][])
        expect([colorScheme, text, contrast >= 4.5]).toEqual([colorScheme, text, true])
    }
    const focused: string[] = []
    for (let at = 0; at < 3; at += 1) {
      await page.keyboard.press('Tab')
      const [what, outline] = (await page.evaluate(
        '[document.activeElement.value, getComputedStyle(document.activeElement).outlineStyle]',
      )) as [string, string]
      focused.push(what)
      expect(outline).not.toBe('none')
    }
    expect(focused).toEqual(['notes:read', 'allow', 'deny'])
  })

  it('threat 1: what files and addresses say is shown as text, and no page can be put into a frame', async () => {
    const file = join(world.home, 'servers/notes.yaml')
    const text = await readFile(file, 'utf8')
    await writeFile(
      file,
      text.replace('Notes assistant', '"<img src=x onerror=alert(1)><script>document.title=1</script>"'),
    )
    expect((await world.deputy('reload')).code).toBe(0)
    await toConsent()
    expect(await page.locator('main').textContent()).toContain('<script>document.title=1</script>')
    expect([await page.locator('img').count(), await page.locator('script').count(), await page.title()]).toEqual([
      0,
      0,
      'Connect Notes? · Deputy',
    ])
    // Also where a script would have got in, the policy stops it.
    expect(
      await page.evaluate(
        "(() => { const script = document.createElement('script'); script.textContent = 'window.ran = 1'; document.body.append(script); return window.ran ?? 0 })()",
      ),
    ).toBe(0)
    await writeFile(file, text)
    expect((await world.deputy('reload')).code).toBe(0)
    const framing = createServer((_request, response) => {
      response.setHeader('content-type', 'text/html').end(`<iframe src="${world.connectUrl}/connect/nothing"></iframe>`)
    })
    await new Promise<void>((resolve) => {
      framing.listen(0, '127.0.0.1', resolve)
    })
    complaints = []
    await page.goto(`http://127.0.0.1:${(framing.address() as AddressInfo).port}/`)
    await expect.poll(() => complaints.join()).toMatch(/frame-ancestors|X-Frame-Options|ERR_BLOCKED_BY_RESPONSE/)
    framing.close()
    framing.closeAllConnections()
  })

  it('promise 9: the whole way ends connected, with a cookie that only this host gets, and nothing from elsewhere', async () => {
    await toConsent()
    const cookies = (await context.cookies(world.connectUrl)).filter(({ name }) => name.startsWith('__Host-'))
    expect(cookies).toMatchObject([{ secure: true, httpOnly: true, sameSite: 'Lax', path: '/' }])
    await page.keyboard.press('Tab')
    await page.keyboard.press('Tab')
    await Promise.all([page.waitForNavigation(), page.keyboard.press('Enter')])
    await passPeer(page, 'alice-notes', world.service.url)
    expect(await page.locator('h1').textContent()).toBe('Connected')
    expect(await grants()).toMatchObject([{ user: 'alice', server: 'notes', scopes: ['notes:read'] }])
    expect([...visited].sort()).toEqual([world.connectUrl, world.idp.url, world.service.url].sort())
    expect(complaints).toEqual([])
  })
})
