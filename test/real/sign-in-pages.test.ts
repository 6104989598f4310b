import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { SIGN_IN_CLIENT } from '../peers/company-idp.ts'
import { CONTRASTS, findChromium, passPeer, startChromium } from '../support/chromium.ts'
import {
  authorizationUrl,
  registerClient,
  signInFiles,
  startSignInWorld,
  type SignInWorld,
} from '../support/sign-in.ts'

const executable = findChromium()
/** Where pictures of the pages are written, for a person to look at; nowhere by default. */
const PICTURES = process.env['DEPUTY_TEST_PICTURES']
const WIKI = 'https://wiki.example/mcp'
const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code'

let world: SignInWorld
/** The address of a client on the user's machine, where the browser comes back to. */
let callback: string
let client: Server
let browser: Browser
let context: BrowserContext
let page: Page
/** Console errors, a violated policy of a page among them. */
let complaints: string[]

/** @param user the only user of the identity provider that is the tenant's */
const tenantAt = (tenant: string, issuer: string, user: string, more: object = {}): object => ({
  tenant,
  name: `The ${tenant} company`,
  issuers: [{ issuer, algorithms: ['ES256'], claims: { tenant: { claim: 'sub', value: user } } }],
  sign_in: {
    issuer,
    client_id: SIGN_IN_CLIENT.client_id,
    client_secret: { file: 'secrets/sign-in' },
    redirect_uri: 'shared',
    ...more,
  },
})

/** A person reads the page on a phone and on a screen, in both colours. */
const expectReadable = async (name: string, title: string): Promise<void> => {
  expect([await page.title(), await page.locator('h1').count(), await page.locator('main').count()]).toEqual([
    `${title} · Deputy`,
    1,
    1,
  ])
  for (const [width, colorScheme] of [
    [320, 'light'],
    [1024, 'dark'],
  ] as const) {
    await page.setViewportSize({ width, height: 720 })
    await page.emulateMedia({ colorScheme })
    const fits = 'document.documentElement.scrollWidth <= document.documentElement.clientWidth'
    expect([name, width, await page.evaluate(fits)]).toEqual([name, width, true])
    for (const [text, contrast] of (await page.evaluate(CONTRASTS)) as [string, number][])
      expect([colorScheme, text, contrast >= 4.5]).toEqual([colorScheme, text, true])
    if (PICTURES !== undefined) await page.screenshot({ path: join(PICTURES, `${name}-${width}.png`), fullPage: true })
  }
}

const press = (name: string) =>
  Promise.all([page.waitForNavigation(), page.getByRole('button', { name, exact: true }).click()])

describe.skipIf(executable === undefined)('the pages of a sign-in in a real browser', () => {
  beforeAll(async () => {
    world = await startSignInWorld(({ idp }) => ({
      'tenants/initech.yaml': tenantAt('initech', idp.issuer, 'alice', { domains: ['initech.example'] }),
      'tenants/west.yaml': tenantAt('west', 'http://127.0.0.1:1', 'alice'),
      'tenants/east.yaml': tenantAt('east', 'http://127.0.0.1:2', 'alice', { domains: ['east.example'] }),
      'tenants/acme.yaml': tenantAt('acme', idp.issuer, 'bob'),
      'servers/notes.yaml': {
        ...(signInFiles(idp)['servers/notes.yaml'] as object),
        tenants: ['initech', 'east'],
        downstreams: {},
      },
      'servers/wiki.yaml': {
        ...(signInFiles(idp)['servers/notes.yaml'] as object),
        server: 'wiki',
        name: 'The wiki of all departments',
        resource: WIKI,
        tenants: ['acme', 'west'],
        attest: [{ unix: { uid: 65_000 } }],
        downstreams: {},
      },
    }))
    browser = await startChromium(executable!)
    client = createServer((_request, response) => {
      response.end('back at the client')
    }).listen(0, '127.0.0.1')
    await once(client, 'listening')
    callback = `http://127.0.0.1:${(client.address() as AddressInfo).port}/callback`
    if (PICTURES !== undefined) await mkdir(PICTURES, { recursive: true })
  })
  afterAll(async () => {
    await browser?.close()
    client?.close()
    await world?.close()
  })
  beforeEach(async () => {
    context = await browser.newContext()
    page = await context.newPage()
    complaints = []
    page.on('console', (message) => {
      if (message.type() === 'error' && !message.location().url.endsWith('/favicon.ico'))
        complaints.push(message.text())
    })
  })
  afterEach(async () => {
    await context?.close()
  })

  it('the page that lists organizations, and the consent after it', async () => {
    const id = await registerClient(world, { client_name: 'An editor with a long name '.repeat(3) })
    await page.goto(authorizationUrl(world, id, { resource: WIKI, redirect_uri: callback }).url)
    await expectReadable('tenants', 'Sign in to The wiki of all departments')
    expect(await page.getByRole('link').allTextContents()).toEqual(['The acme company', 'The west company'])
    await Promise.all([page.waitForNavigation(), page.getByRole('link', { name: 'The acme company' }).click()])
    await passPeer(page, 'bob', world.idp.url)
    await expectReadable(
      'consent',
      `Let ${'An editor with a long name '.repeat(3).trim()} use The wiki of all departments?`,
    )
    await press('Allow')
    expect([page.url().startsWith(`${callback}?code=`), complaints]).toEqual([true, []])
  })

  it('the page that asks for an e-mail address, also for one that belongs to no organization', async () => {
    const id = await registerClient(world)
    await page.goto(authorizationUrl(world, id, { redirect_uri: callback }).url)
    await expectReadable('email', 'Sign in to Notes')
    await page.getByLabel('E-mail address').fill('alice@elsewhere.example')
    await press('Continue')
    expect(await page.getByRole('alert').textContent()).toContain('elsewhere.example')
    await expectReadable('email-unknown', 'Sign in to Notes')
    await page.getByLabel('E-mail address').fill('alice@initech.example')
    await press('Continue')
    await page.waitForURL(`${world.idp.url}/**`)
    await passPeer(page, 'alice', world.idp.url)
    await press('Do not allow')
    expect([new URL(page.url()).searchParams.get('error'), complaints]).toEqual(['access_denied', []])
  })

  it('the pages for a program without a browser', async () => {
    const id = await registerClient(world, { grant_types: [DEVICE_GRANT], client_name: 'Build box' })
    const started = await fetch(`${world.url}/oauth2/device_authorization`, {
      method: 'POST',
      body: new URLSearchParams({ client_id: id, resource: WIKI }),
    })
    const { user_code: code } = (await started.json()) as { user_code: string }
    await page.goto(`${world.url}/device`)
    await page.getByLabel('Code').fill('XXXX-XXXX')
    await press('Continue')
    expect(await page.getByRole('alert').count()).toBe(1)
    await expectReadable('device-unknown', 'Sign in on another device')
    await page.getByLabel('Code').fill(code)
    await press('Continue')
    await expectReadable('device-confirm', 'Sign in at Build box?')
    await press('It shows this code')
    await page.getByRole('link', { name: 'The acme company' }).click()
    await page.waitForURL(`${world.idp.url}/**`)
    await passPeer(page, 'bob', world.idp.url)
    await expectReadable('device-consent', 'Let Build box use The wiki of all departments?')
    await press('Allow')
    await page.getByText('goes on by itself').waitFor()
    await expectReadable('device-done', await page.title().then((title) => title.replace(' · Deputy', '')))
    expect(complaints).toEqual([])
  })

  it('the page of an error', async () => {
    await page.goto(authorizationUrl(world, `dcr_${'long'.repeat(40)}`).url)
    await expectReadable('unknown-client', 'This did not work')
  })
})
