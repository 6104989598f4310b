import { open, readdir, readFile, realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { buffer as readWhole } from 'node:stream/consumers'
import type { Settings } from '#config'
import { parseKeyFile, type Secret } from '#foundation/crypto'
import { bytesOf } from '#foundation/audit'
import { isBackup, type Source } from '#foundation/backup'
import { isForeign, kekFiles, type Layout } from './layout.ts'

/** Files that are read at once (bytes); a larger one is read by pieces, and must not change meanwhile. */
const SMALL = 8_388_608
/** Characters of a secret by which a file that holds it is found. */
const SHORTEST_SECRET = 16

export interface ConfigurationFiles {
  readonly sources: AsyncIterable<Source>
  /** What was left out, and why; complete when the sources were read. */
  readonly leftOut: string[]
}

export interface ConfigurationPlace {
  readonly layout: Layout
  readonly settings: Pick<Settings, 'kek' | 'kek_earlier'>
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Files that are never a part of it: the backup and its key. */
  readonly files: readonly string[]
  readonly passphrase: Secret
}

/** Texts that must not be in a backup: with one of them, who has the backup has the secrets. */
const forbiddenTexts = async (place: ConfigurationPlace): Promise<readonly Buffer[]> => {
  const { settings, layout, environment, passphrase } = place
  const texts = [passphrase.reveal()]
  for (const path of kekFiles(layout.home, settings)) texts.push(await readFile(path, 'utf8').catch(() => ''))
  for (const kek of [settings.kek, ...settings.kek_earlier]) if ('env' in kek) texts.push(environment[kek.env] ?? '')
  return texts
    .flatMap((text) => text.split('\n'))
    .map((line) => line.trim())
    .filter((line) => line.length >= SHORTEST_SECRET && !line.startsWith('#'))
    .map((line) => Buffer.from(line))
}

const identityOf = async (path: string): Promise<string | undefined> => {
  const found = await stat(path).catch(() => undefined)
  return found === undefined ? undefined : `${found.dev}:${found.ino}`
}

/** Whether one of the texts is in a content of any size: an archive of the folder may be in the folder. */
const holds = async (content: Source['content'], texts: readonly Buffer[]): Promise<boolean> => {
  const longest = Math.max(0, ...texts.map(({ length }) => length))
  let before = Buffer.alloc(0)
  for await (const piece of content) {
    const seen = Buffer.concat([before, piece])
    if (texts.some((text) => seen.includes(text))) return true
    before = Buffer.from(seen.subarray(Math.max(0, seen.length - longest)))
  }
  return false
}

/** Whether a file is a data key, such as in a copy of the state folder. A backup that is kept would open what a revoked tenant had stored. */
const isDataKey = (name: string, content: Buffer): boolean => {
  if (!name.endsWith('.key')) return false
  try {
    parseKeyFile(content.toString('utf8'))
    return true
  } catch {
    return false
  }
}

/** The files of a configuration folder, without state, sockets and the key-encryption key. Links to files are followed. */
export const configurationFiles = async (place: ConfigurationPlace): Promise<ConfigurationFiles> => {
  const { layout, settings } = place
  const leftOut: string[] = []
  const forbidden = await forbiddenTexts(place)
  const excluded = new Set(await Promise.all([...place.files, layout.state, layout.keys].map(identityOf)))
  const secret = new Set(await Promise.all(kekFiles(layout.home, settings).map(identityOf)))
  const root = await realpath(layout.home)

  async function* fileAt(path: string, name: string): AsyncGenerator<Source> {
    const file = await open(path, 'r')
    try {
      const { size, mode } = await file.stat()
      const { buffer } = await file.read(Buffer.alloc(64), 0, 64, 0)
      if (isBackup(buffer)) {
        leftOut.push(`${name}: a backup`)
        return
      }
      const common = { path: `configuration/${name}`, mode: mode & 0o777 }
      // What is judged is what is written: a small file is read once.
      const small = size > SMALL ? undefined : await readWhole(bytesOf(file, size))
      if (await holds(small === undefined ? bytesOf(file, size) : [small], forbidden))
        leftOut.push(`${name}: it holds the key-encryption key, or the key of the backup`)
      else if (small === undefined) yield { ...common, bytes: size, content: bytesOf(file, size) }
      else if (isDataKey(name, small)) leftOut.push(`${name}: a data key`)
      else yield { ...common, bytes: small.length, content: [small] }
    } finally {
      await file.close()
    }
  }
  async function* below(folder: string, prefix: string): AsyncGenerator<Source> {
    for (const entry of (await readdir(folder, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const [path, name] = [join(folder, entry.name), `${prefix}${entry.name}`]
      const identity = await identityOf(path)
      if (isForeign(entry.name) || identity === undefined || excluded.has(identity)) continue
      if (secret.has(identity)) leftOut.push(`${name}: the key-encryption key`)
      else if (entry.isDirectory()) yield* below(path, `${name}/`)
      else if ((await stat(path)).isFile()) yield* fileAt(path, name)
      else if (entry.isSymbolicLink()) leftOut.push(`${name}: a link to a folder`)
    }
  }
  return { sources: below(root, ''), leftOut }
}
