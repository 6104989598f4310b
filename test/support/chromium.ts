/** A real browser for tests of pages, where the machine has one. */
import { existsSync } from 'node:fs'
import { chromium, type Browser, type Page } from 'playwright-core'
import { PASSWORD } from '../peers/openid-server.ts'

const PLACES = [process.env['CHROMIUM'], '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']

/** Path of the browser; undefined, said loudly, when there is none. */
export const findChromium = (): string | undefined => {
  const found = PLACES.find((path) => path !== undefined && existsSync(path))
  if (found === undefined)
    process.stderr.write(
      '\n*** SKIPPED: the tests in a real browser. There is no Chromium here: install the package `chromium`, or set CHROMIUM to its path. ***\n\n',
    )
  return found
}

export const startChromium = (executablePath: string): Promise<Browser> =>
  chromium.launch({ executablePath, headless: true, args: process.getuid?.() === 0 ? ['--no-sandbox'] : [] })

/** Signs in where the page is, at the server of this URL, and allows what that asks. */
export const passPeer = async (page: Page, user: string, url: string): Promise<void> => {
  for (let step = 0; step < 3 && page.url().startsWith(url); step += 1) {
    const login = page.locator('input[name=login]')
    if ((await login.count()) > 0) {
      await login.fill(user)
      await page.locator('input[name=password]').fill(PASSWORD)
      await Promise.all([page.waitForNavigation(), page.locator('button').click()])
    } else await Promise.all([page.waitForNavigation(), page.locator('button[value=allow]').click()])
  }
}
