import { watch, type FSWatcher } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { type CurrentSnapshot, rotationPolicies, SETTINGS_FILE } from '#config'
import { accessPolicies } from '#daemon/configuration'

const REGISTRY = ['tenants', 'servers', 'downstreams', 'providers', 'clients', 'apis']

/** How long the folder must be quiet before it is read again (ms): an editor writes a file in several steps. */
const QUIET_MS = 200

/**
 * Calls `changed` when files of the configuration have changed. Folders that are made, removed or replaced later are watched
 * as well: the folders around them are, and every watch is begun anew after each change.
 * @param changed resolves when the files have been read; the settings may name other folders then
 * @returns what ends the watch
 */
export const watchConfiguration = (snapshot: CurrentSnapshot, changed: () => Promise<void>): (() => void) => {
  let timer: NodeJS.Timeout | undefined
  let isOver = false
  let watchers: FSWatcher[] = []

  /** @param names the entries that matter; every one where it is left out */
  const attend = (folder: string, names?: readonly string[]): void => {
    try {
      const watcher = watch(folder, { persistent: false }, (_event, name) => {
        if (names === undefined || name === null || names.includes(name)) later()
      })
      watcher.on('error', () => {
        watcher.close()
      })
      watchers.push(watcher)
    } catch {
      /* a folder that does not exist holds nothing; the one around it is watched */
    }
  }
  const attendAll = (): void => {
    for (const watcher of watchers) watcher.close()
    watchers = []
    if (isOver) return
    const { home, settings } = snapshot()
    const policies = resolve(home, settings.policies)
    // The daemon's own files are in the home folder as well: what they do there is no change of the configuration.
    attend(home, [SETTINGS_FILE, ...REGISTRY])
    attend(dirname(policies), [basename(policies)])
    attend(policies, ['access', 'rotation'])
    for (const name of REGISTRY) attend(join(home, name))
    attend(accessPolicies(snapshot()))
    attend(rotationPolicies(snapshot()))
  }
  function later(): void {
    if (isOver) return
    clearTimeout(timer)
    timer = setTimeout(() => {
      attendAll()
      void changed().finally(attendAll)
    }, QUIET_MS)
  }

  attendAll()
  return () => {
    isOver = true
    clearTimeout(timer)
    attendAll()
  }
}
