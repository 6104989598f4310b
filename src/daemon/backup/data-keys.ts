import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { mergeKeyFiles, parseKeyFile } from '#foundation/crypto'
import type { Source } from '#foundation/backup'
import type { Manifest } from './manifest.ts'
import { OWN_KEY_FILE } from './layout.ts'

const SUFFIX = '.key'

/** The texts of the files of data keys, by their names. */
export type KeyFiles = ReadonlyMap<string, string>

/** @returns none for a folder that is not there */
export const readKeyFiles = async (folder: string): Promise<KeyFiles> => {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  const found = new Map<string, string>()
  for (const name of names.filter((each) => each.endsWith(SUFFIX)).sort()) {
    // One that was destroyed since is gone.
    const text = await readFile(join(folder, name), 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined
      throw error
    })
    if (text !== undefined) found.set(name, text)
  }
  return found
}

/** The keys as they are now, each file with what it had at an earlier moment: the store between the two may need either. */
export const mergedKeys = (before: KeyFiles, now: KeyFiles): KeyFiles =>
  new Map([...now].map(([name, text]) => [name, mergeKeyFiles(before.get(name), text)]))

export const tenantOf = (name: string): string => name.slice(0, -SUFFIX.length)

export const tenantsWithKeys = (files: KeyFiles): string[] =>
  [...files.keys()].filter((name) => name !== OWN_KEY_FILE).map(tenantOf)

export const ownKeys = (files: KeyFiles): Manifest['own_keys'] => {
  const text = files.get(OWN_KEY_FILE)
  return text === undefined ? [] : parseKeyFile(text).map(({ key, kek }) => ({ key, kek }))
}

export const textSource = (path: string, text: string): Source => {
  const bytes = Buffer.from(text)
  return { path, mode: 0o600, bytes: bytes.length, content: [bytes] }
}
