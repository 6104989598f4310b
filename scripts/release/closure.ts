/** The installed packages that some packages need, by the lock file: for what ships with its node_modules. */
import { cp, readFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { ROOT } from './folders.ts'

const installedSchema = z.looseObject({
  dependencies: z.record(z.string(), z.string()).default({}),
  optionalDependencies: z.record(z.string(), z.string()).default({}),
})

/** Where Node finds a package that one at `from` (a path below the root, or '') needs. */
const find = (name: string, from: string): string | undefined => {
  for (let folder = from; ; folder = dirname(folder)) {
    const path = join(folder === '.' ? '' : folder, 'node_modules', name)
    if (existsSync(join(ROOT, path, 'package.json'))) return path
    if (folder === '' || folder === '.') return undefined
  }
}

/** The paths, below the root, of these packages and of all that they need. @throws Error where one is not installed */
export const closureOf = async (names: readonly string[]): Promise<string[]> => {
  const found = new Set<string>()
  const add = async (name: string, from: string, isOptional: boolean): Promise<void> => {
    const path = find(name, from)
    if (path === undefined) {
      if (isOptional) return
      throw new Error(`${name} is not installed: run npm ci`)
    }
    if (found.has(path)) return
    found.add(path)
    const { dependencies, optionalDependencies } = installedSchema.parse(
      JSON.parse(await readFile(join(ROOT, path, 'package.json'), 'utf8')),
    )
    for (const needed of Object.keys(dependencies)) await add(needed, path, needed in optionalDependencies)
    for (const needed of Object.keys(optionalDependencies)) await add(needed, path, true)
  }
  for (const name of names) await add(name, '', false)
  return [...found].sort()
}

/** Copies them to another root. */
export const copyClosure = async (names: readonly string[], to: string): Promise<void> => {
  for (const path of await closureOf(names))
    await cp(join(ROOT, path), join(to, path), {
      recursive: true,
      // What is nested is a package of its own, and comes by itself where it is needed.
      filter: (source) => !source.slice(join(ROOT, path).length).includes('/node_modules'),
    })
}
