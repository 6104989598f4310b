/** The scenarios of the MCP conformance suite for authorization servers: Deputy signs users in, and the suite is a client of it. */
import { walkAuthorization } from '../peers/openid-server.ts'
import { freePort } from './process.ts'
import { registerClient, RESOURCE, startSignInWorld } from './sign-in.ts'

/**
 * Lets the suite be a client that has registered itself. It prints the address at which a person signs in, and waits for the answer.
 * @param run runs the suite with these arguments, and hands on what it prints while it runs
 */
export const signInForSuite = async (
  run: (args: readonly string[], printed: (text: string) => void) => Promise<string>,
): Promise<string> => {
  const world = await startSignInWorld()
  try {
    const port = await freePort()
    const redirectUri = `http://127.0.0.1:${port}/callback`
    const client = await registerClient(world, { redirect_uris: [redirectUri] })
    let walk: Promise<unknown> | undefined
    const args = ['authorization', '--url', world.url, '--client-id', client]
    return await run([...args, '--resource', RESOURCE, '--port', String(port)], (text) => {
      const authorizationUrl = /http:\S+\/oauth2\/authorize\?\S+\n/.exec(text)?.[0].trim()
      if (authorizationUrl === undefined || walk !== undefined) return
      walk = walkAuthorization({ authorizationUrl, redirectUri, user: 'alice' }).then((back) => fetch(back))
      // The suite says what has not come.
      walk.catch(() => undefined)
    })
  } finally {
    await world.close()
  }
}
