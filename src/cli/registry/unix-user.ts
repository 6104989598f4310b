/** Unix users by name or number, as the name services of this machine know them (getent(1): files, LDAP, sssd). */
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'

/** useradd(8), and the names of directories such as `user@example.com`; never an option. */
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\$?$/
const MAX_UID = 4_294_967_294

/** getent(1): the key was not found. */
const NOT_FOUND = 2

const passwdLine = async (key: string): Promise<string | undefined> => {
  try {
    return (await promisify(execFile)('getent', ['passwd', '--', key], { timeout: 5000 })).stdout
  } catch (error) {
    if ((error as { code?: unknown }).code === NOT_FOUND) return undefined
    // Where there is no getent, as on macOS and in small images.
    const lines = (await readFile('/etc/passwd', 'utf8').catch(() => '')).split('\n')
    return lines.find((line) => {
      const [name, , uid] = line.split(':')
      return name === key || uid === key
    })
  }
}

/** A user id, as far as it is one. */
export const uidOf = (text: string): number | undefined => {
  const uid = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN
  return uid <= MAX_UID ? uid : undefined
}

/** @param text a name or a user id. @returns undefined where this machine knows no such user */
export const findUser = async (text: string): Promise<{ readonly name: string; readonly uid: number } | undefined> => {
  if (!NAME.test(text)) return undefined
  const [name, , uid] = (await passwdLine(text))?.split(':') ?? []
  return name === undefined || uid === undefined ? undefined : { name, uid: Number(uid) }
}
