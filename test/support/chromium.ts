/** A real browser for tests of pages, where the machine has one. */
import { existsSync } from 'node:fs'
import { chromium, type Browser } from 'playwright-core'

const PLACES = [process.env['CHROMIUM'], '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']

/** Path of the browser; undefined, said loudly, when there is none. */
export const findChromium = (): string | undefined => {
  const found = PLACES.find((path) => path !== undefined && existsSync(path))
  if (found === undefined) process.stderr.write('\n*** SKIPPED: the tests in a real browser. There is no Chromium here: install the package `chromium`, or set CHROMIUM to its path. ***\n\n')
  return found
}

export const startChromium = (executablePath: string): Promise<Browser> =>
  chromium.launch({ executablePath, headless: true, args: process.getuid?.() === 0 ? ['--no-sandbox'] : [] })
