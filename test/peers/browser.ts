/**
 * The browser that programs in other languages open: `BROWSER='node browser.ts %s &'`. It signs the user that
 * DEPUTY_TEST_USER names in at the test's identity provider, goes back to the program's own address, and adds the address that
 * it was opened with to the file of DEPUTY_TEST_VISITS. With DEPUTY_TEST_CHROMIUM, the path of a Chromium, it is that one; else a client of
 * HTTP that follows redirects and fills in forms.
 */
import { appendFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { KEYCLOAK_PASSWORD } from './keycloak.ts'
import { startChromium } from '../support/chromium.ts'
import { PASSWORD } from './openid-server.ts'
import { createBrowser, type Page } from './walk.ts'

const PATIENCE_MS = 10_000
/** Sign-in, consent, and some to spare. */
const MOST_FORMS = 5

/** The program may listen only after it has opened the browser. */
const goBack = async (url: string): Promise<void> => {
  for (const until = Date.now() + PATIENCE_MS; ; await sleep(50)) {
    try {
      await (await fetch(url)).text()
      return
    } catch (error) {
      if (Date.now() > until) throw error
    }
  }
}

/** What a person writes into the form of a page: of the test's own provider, or of Keycloak. */
const answerTo = ({ body }: Pick<Page, 'body'>, user: string): Readonly<Record<string, string>> => {
  // Keycloak's button has the name that the field of the test's own provider has.
  if (body.includes('name="username"')) return { username: user, password: KEYCLOAK_PASSWORD }
  if (body.includes('name="login"')) return { login: user, password: PASSWORD }
  return body.includes('name="accept"') ? { accept: 'Yes' } : { decision: 'allow' }
}

const [address] = process.argv.slice(2)
const { DEPUTY_TEST_USER: user, DEPUTY_TEST_VISITS: visits, DEPUTY_TEST_CHROMIUM: chromium } = process.env
if (address === undefined || user === undefined || visits === undefined)
  throw new Error('An address, DEPUTY_TEST_USER and DEPUTY_TEST_VISITS are needed.')
await appendFile(visits, `${address}\n`)
const asked = new URL(address).searchParams
const redirectUri = asked.get('redirect_uri') ?? ''

/** As a person with a real browser: what a policy of a page forbids does not happen. @returns where the program still has to be told; undefined: the browser has */
const signInWithChromium = async (executable: string): Promise<string | undefined> => {
  const browser = await startChromium(executable)
  try {
    const page = await browser.newPage()
    await page.route('**/favicon.ico', (route) => route.abort())
    const isBack = (url: string): boolean => url.startsWith(`${redirectUri}?`)
    let last = ''
    let [isTold, isLost] = [false, false]
    page.on('response', (response) => {
      if (isBack(response.url())) isTold = true
    })
    page.on('requestfailed', (request) => {
      if (isBack(request.url())) isLost = true
    })
    page.on('request', (request) => {
      if (isBack(request.url())) last = request.url()
    })
    await page.goto(address!)
    for (let form = 0; form < MOST_FORMS && last === ''; form += 1) {
      const answer = answerTo({ body: await page.content() }, user!)
      const next = page.waitForNavigation({ timeout: PATIENCE_MS }).catch(() => undefined)
      if ('decision' in answer) await page.locator(`button[value=${answer['decision']}]`).click()
      else {
        for (const [name, value] of Object.entries(answer)) await page.locator(`[name=${name}]`).first().fill(value)
        // Some pages have other buttons before the one that sends the form.
        await page.keyboard.press('Enter')
      }
      await next
    }
    if (last === '') throw new Error(`it ended at ${page.url()}: ${(await page.content()).slice(0, 500)}`)
    // Only once: a program that is told twice takes the second for the answer to its next question.
    for (const until = Date.now() + PATIENCE_MS; !isTold && !isLost && Date.now() < until;) await sleep(50)
    return isTold ? undefined : last
  } finally {
    await browser.close()
  }
}

/** @returns where the identity provider sends the browser in the end */
const signIn = async (): Promise<string | undefined> => {
  if (chromium !== undefined) return signInWithChromium(chromium)
  const browser = createBrowser({ stopAt: (url) => url.startsWith(`${redirectUri}?`) })
  let page = await browser.open(address)
  for (let form = 0; page.status !== 0 && form < MOST_FORMS; form += 1)
    page = await browser.submit(page, answerTo(page, user))
  if (page.status !== 0) throw new Error(`it ended at ${page.url} with ${page.status}: ${page.body.slice(0, 500)}`)
  return page.url
}
/** A program that is told nothing would wait for ever. */
const give = async (error: unknown): Promise<string> => {
  const facts = {
    error: 'access_denied',
    error_description: String(error).slice(0, 2000),
    state: asked.get('state') ?? '',
  }
  await appendFile(visits, `${new URLSearchParams(facts)}\n`)
  return `${redirectUri}?${new URLSearchParams(facts)}`
}
const place = await signIn().catch(give)
if (place !== undefined) await goBack(place)
