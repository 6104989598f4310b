/** Tokens of the world's users for the author's server, as the identity provider issues them. */
import { lstat, readdir } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { z } from 'zod'
import { DevError } from './error.ts'
import { LOOPBACK, TOKEN_CLIENT, USER_TOKEN_GRANT, USERS } from './facts.ts'
import { readState, type State } from './state.ts'

/** The beginning of the name of a temporary world's folder. */
export const FOLDER_PREFIX = 'deputy-dev-'

const tokenSchema = z.object({ access_token: z.string() })

/**
 * @param resource the server that the token is for; default: the author's
 * @throws DevError when the identity provider does not answer, or does not know the user
 */
export const mintUserToken = async (
  { ports, secrets, resource: own }: State,
  user: string,
  resource = own,
): Promise<string> => {
  if (!Object.hasOwn(USERS, user))
    throw new DevError(`There is no user ${user}.`, `The users are ${Object.keys(USERS).join(', ')}.`)
  const response = await fetch(`http://${LOOPBACK}:${ports.idp}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`${TOKEN_CLIENT}:${secrets.token}`).toString('base64')}` },
    body: new URLSearchParams({ grant_type: USER_TOKEN_GRANT, user, resource }),
  }).catch(() => {
    throw new DevError('The identity provider of this world is not running.', 'Start the world with deputy dev.')
  })
  const answer = tokenSchema.safeParse(await response.json().catch(() => undefined))
  if (!answer.success)
    throw new DevError(`The identity provider answered ${response.status}.`, 'Start the world again: deputy dev')
  return answer.data.access_token
}

/** Whether a process listens at the socket. */
export const isListening = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(path)
    const end = (is: boolean) => () => {
      socket.destroy()
      resolve(is)
    }
    socket.once('connect', end(true)).once('error', end(false))
  })

export const adminSocketOf = (home: string): string => join(home, 'run/admin.sock')

/** Temporary folders of this user's worlds that run. */
const runningIn = async (temporary: string, uid: number): Promise<string[]> => {
  const names = (await readdir(temporary)).filter((name) => name.startsWith(FOLDER_PREFIX))
  const found: string[] = []
  for (const name of names) {
    const home = join(temporary, name)
    const folder = await lstat(home).catch(() => undefined)
    // What another user has put there is no world of this one's.
    if (folder?.isDirectory() !== true || folder.uid !== uid || (folder.mode & 0o077) !== 0) continue
    if (await isListening(adminSocketOf(home))) found.push(home)
  }
  return found
}

/**
 * @param home the folder that the caller names; undefined: the one temporary world that runs
 * @returns the folder of a world. @throws DevError when there is none, or more than one
 */
export const findWorld = async (home: string | undefined, temporary: string, uid: number): Promise<string> => {
  if (home !== undefined) {
    if ((await readState(home)) === undefined)
      throw new DevError(`${home} holds no development world.`, `deputy dev --home ${home}`)
    // Another program may have its ports by now, and would get the secret of the client.
    if (!(await isListening(adminSocketOf(home))))
      throw new DevError(`The development world in ${home} is not running.`, `deputy dev --home ${home}`)
    return home
  }
  const [found, ...more] = await runningIn(temporary, uid)
  if (found === undefined)
    throw new DevError(
      'No development world runs in a temporary folder.',
      'Start one with deputy dev, or name its folder with --home.',
    )
  if (more.length > 0)
    throw new DevError(
      `${more.length + 1} development worlds run: ${[found, ...more].join(', ')}.`,
      `Name one: deputy dev token --home ${found}`,
    )
  return found
}
