/** Folders whose mode keeps out programs that `listen.socket_mode` and `listen.socket_group` allow. */
import { stat } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { octal } from '#foundation/files'
import { SETTINGS_FILE } from './settings.ts'
import type { Problem } from './problem.ts'
import type { Settings } from './settings.ts'

/** Sockets of local programs, by their setting; the admin socket is of the daemon's user only. */
const socketsOf = (home: string, { listen }: Settings): [setting: string, path: string][] => {
  const socket = resolve(home, listen.socket)
  const proxy = listen.proxy_socket === undefined ? join(dirname(socket), 'proxy.sock') : listen.proxy_socket
  const named: [string, string | null][] = [
    ['listen.socket', socket],
    ['listen.proxy_socket', proxy],
    // Both name a folder; every socket in it has the same one.
    ['listen.postgres', listen.postgres === null ? null : join(listen.postgres, 'socket')],
    ['listen.redis', listen.redis === null ? null : join(listen.redis, 'socket')],
  ]
  return named.flatMap(([setting, path]) => (path === null ? [] : [[setting, resolve(home, path)]]))
}

const foldersAbove = (path: string): string[] => {
  const folder = dirname(path)
  return folder === path ? [] : [...foldersAbove(folder), folder]
}

interface Doorway {
  readonly gid: number
  readonly mode: number
}

/** Whether members of the group may pass, and all other users where the mode lets them in (path_resolution(7)). */
const isShut = (folder: Doorway, mode: number, group: number): boolean => {
  const othersPass = (folder.mode & 0o001) !== 0
  const groupPasses = folder.gid === group ? (folder.mode & 0o010) !== 0 : othersPass
  return ((mode & 0o007) !== 0 && !othersPass) || ((mode & 0o070) !== 0 && !groupPasses)
}

/** @param group the group that the socket belongs to */
const fixFor = (
  { folder, found, group }: { readonly folder: string; readonly found: Doorway; readonly group: number },
  home: string,
  settings: Settings,
): string => {
  if (folder === resolve(home, settings.state))
    return 'The state folder stays private: write a path outside of it, for example /run/deputy/deputy.sock.'
  const open =
    (settings.listen.socket_mode & 0o007) !== 0
      ? `chmod o+x ${folder}`
      : `${found.gid === group ? '' : `chgrp ${group} ${folder} && `}chmod g+x ${folder}`
  return `Run: ${open}; or write a path outside of it, for example /run/deputy/deputy.sock.`
}

/**
 * Folders on the way to a socket that users cannot pass although the mode and group of the socket allow them.
 * A missing folder is no problem: the daemon creates it with a mode that fits.
 * @param home the configuration folder, absolute
 */
export const socketFolderProblems = async (home: string, settings: Settings): Promise<Problem[]> => {
  const { socket_mode: mode, socket_group: named } = settings.listen
  if ((mode & 0o077) === 0) return []
  const shut = new Map<string, { found: Doorway; by: string[] }>()
  for (const [setting, path] of socketsOf(home, settings))
    for (const folder of foldersAbove(path)) {
      const found = await stat(folder).catch(() => undefined)
      if (found === undefined) break
      const group = named ?? process.getegid?.() ?? found.gid
      if (!isShut(found, mode, group)) continue
      const known = shut.get(folder)
      if (known === undefined) shut.set(folder, { found, by: [setting] })
      else known.by.push(setting)
    }
  return [...shut].map(([folder, { found, by }]) => {
    const group = named ?? process.getegid?.() ?? found.gid
    return {
      file: SETTINGS_FILE,
      line: 1,
      message: `listen.socket_mode allows other users, and the mode ${octal(found.mode)} of the folder ${folder} keeps them out (${by.join(', ')}).`,
      fix: fixFor({ folder, found, group }, home, settings),
    }
  })
}
