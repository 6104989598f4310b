/** The daemon with its CLI as a package: bundled, and with what cannot be bundled as its dependencies. */
import { chmod, cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { bundle, UNBUNDLED } from '../bundle.ts'
import { COMMON, manifest, npmPack, ROOT } from './folders.ts'

const FOLDERS = ['providers', 'policies', 'deploy', 'docs'] as const
const FILES = ['CHANGELOG.md', 'SECURITY.md', 'LICENSE', 'README.md'] as const

/** Runs on any Node, so that an older one says what it lacks in place of a syntax error. */
const LAUNCHER = `#!/usr/bin/env node
'use strict'
var needed = ${Number(/\d+/.exec(manifest.engines.node)![0])}
if (parseInt(process.versions.node, 10) < needed) {
  process.stderr.write('Deputy needs Node ' + needed + ' or later, and this is Node ' + process.versions.node + ' (' + process.execPath + ').\\nInstall a newer Node (https://nodejs.org/en/download), or run: npx --package=node@' + needed + ' -- node ' + __filename + '\\n')
  process.exit(1)
}
import('../dist/cli/main.js')
`

const lockSchema = z.looseObject({
  packages: z.record(
    z.string(),
    z.looseObject({
      version: z.string().optional(),
      license: z.unknown(),
      dev: z.boolean().optional(),
      optional: z.boolean().optional(),
    }),
  ),
})

const LICENSE_FILE = /^(licen[cs]e|copying|notice)/i

/** The licences of the packages that are in the bundle: they ask for it. */
const thirdParty = async (): Promise<string> => {
  const { packages } = lockSchema.parse(JSON.parse(await readFile(join(ROOT, 'package-lock.json'), 'utf8')))
  const texts: string[] = []
  for (const [path, { version, license, dev }] of Object.entries(packages).sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (path === '' || dev === true) continue
    const names = await readdir(join(ROOT, path)).catch((): string[] => [])
    const files = names.filter((name) => LICENSE_FILE.test(name)).sort()
    const parts = await Promise.all(files.map((name) => readFile(join(ROOT, path, name), 'utf8').catch(() => '')))
    texts.push(
      `${path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)} ${version ?? ''} (${typeof license === 'string' ? license : 'see below'})\n\n${parts.map((part) => part.trim()).join('\n\n')}\n`,
    )
  }
  return texts.join(`\n${'-'.repeat(80)}\n\n`)
}

/** The package of an import, and its version. @throws Error for one that the repository does not pin */
const dependencyOf = (path: string): [string, string] => {
  const name = path.split('/', path.startsWith('@') ? 2 : 1).join('/')
  const version = manifest.dependencies[name]
  if (version === undefined) throw new Error(`${name} is imported by the bundle, and package.json does not have it`)
  return [name, version]
}

/** What the package needs beside its bundle. */
export const UNBUNDLED_PACKAGES: readonly string[] = UNBUNDLED.map((path) => dependencyOf(path)[0])

/** Makes the package's folder. */
export const makeDaemon = async (folder: string): Promise<void> => {
  await bundle(join(folder, 'dist/cli'))
  for (const name of await readdir(join(folder, 'dist/cli')))
    if (name.endsWith('.map')) await rm(join(folder, 'dist/cli', name))
  for (const name of FOLDERS) await cp(join(ROOT, name), join(folder, name), { recursive: true })
  for (const name of FILES) await cp(join(ROOT, name), join(folder, name))
  await mkdir(join(folder, 'bin'))
  await writeFile(join(folder, 'bin/deputy.cjs'), LAUNCHER)
  await chmod(join(folder, 'bin/deputy.cjs'), 0o755)
  await writeFile(join(folder, 'THIRD-PARTY.txt'), await thirdParty())
  const dependencies = Object.fromEntries(UNBUNDLED.map(dependencyOf))
  const described = {
    name: 'deputy',
    ...COMMON,
    description: manifest.description,
    engines: manifest.engines,
    os: ['linux'],
    bin: { deputy: './bin/deputy.cjs' },
    dependencies,
    allowScripts: { koffi: true },
  }
  await writeFile(join(folder, 'package.json'), `${JSON.stringify(described, null, 2)}\n`)
}

/** @returns the packed file */
export const packDaemon = async (folder: string, out: string): Promise<string> => {
  await makeDaemon(folder)
  return npmPack(folder, out)
}
