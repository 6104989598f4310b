/**
 * The browser that programs in other languages open: `BROWSER='node browser.ts %s &'`. It signs the user that
 * DEPUTY_TEST_USER names in at the test's identity provider, and goes back to the program's own address.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { walkAuthorization } from './openid-server.ts'

const PATIENCE_MS = 10_000

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

const [authorizationUrl] = process.argv.slice(2)
const user = process.env['DEPUTY_TEST_USER']
if (authorizationUrl === undefined || user === undefined) throw new Error('An address and DEPUTY_TEST_USER are needed.')
const redirectUri = new URL(authorizationUrl).searchParams.get('redirect_uri') ?? ''
await goBack((await walkAuthorization({ authorizationUrl, redirectUri, user })).href)
