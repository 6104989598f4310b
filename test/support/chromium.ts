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
    const choice = page.locator(`button[name=login][value=${user}]`)
    if ((await choice.count()) > 0) await Promise.all([page.waitForNavigation(), choice.click()])
    else if ((await login.count()) > 0) {
      await login.fill(user)
      await page.locator('input[name=password]').fill(PASSWORD)
      await Promise.all([page.waitForNavigation(), page.locator('button').click()])
    } else await Promise.all([page.waitForNavigation(), page.locator('button[value=allow]').click()])
  }
}

/** Runs in the page: every element with text of its own, and the contrast of that text (WCAG 2.2, 1.4.3). */
export const CONTRASTS = `(() => {
  const channels = (color) => { const canvas = new OffscreenCanvas(1, 1).getContext('2d'); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data] }
  const luminance = (color) => { const [r, g, b] = color.map((each) => each / 255).map((each) => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b }
  const dark = matchMedia('(prefers-color-scheme: dark)').matches
  const background = (element) => { for (let at = element; at !== null; at = at.parentElement) { const color = channels(getComputedStyle(at).backgroundColor); if (color[3] === 255) return color } return dark ? [18, 18, 18] : [255, 255, 255] }
  return [...document.querySelectorAll('main *')].filter((element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim() !== '')).map((element) => {
    const [one, other] = [luminance(channels(getComputedStyle(element).color).slice(0, 3)), luminance(background(element).slice(0, 3))].sort((a, b) => b - a)
    return [element.textContent.trim().slice(0, 40), (one + 0.05) / (other + 0.05)]
  })
})()`
