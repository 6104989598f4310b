/** Where packages are made, and what all of them share. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { z } from 'zod'

export const ROOT = resolve(import.meta.dirname, '../..')

const manifestSchema = z.looseObject({
  version: z.string(),
  license: z.string(),
  description: z.string(),
  dependencies: z.record(z.string(), z.string()),
  peerDependencies: z.record(z.string(), z.string()),
  peerDependenciesMeta: z.record(z.string(), z.unknown()),
  engines: z.looseObject({ node: z.string() }),
})

/** The manifest of the repository. */
export const manifest = manifestSchema.parse(JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')))

/** What every package says of where it comes from. */
export const COMMON = {
  version: manifest.version,
  license: manifest.license,
  type: 'module',
} as const

/** Runs a program to its end. @throws Error with what it wrote */
export const run = (
  program: string,
  args: readonly string[],
  { cwd = ROOT, environment = {} }: { readonly cwd?: string; readonly environment?: NodeJS.ProcessEnv } = {},
): string => {
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, ...environment },
    maxBuffer: 268_435_456,
  })
  if (error !== undefined) throw error
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${status}:\n${stderr || stdout}`)
  return stdout
}

/** Seconds since the epoch of the last commit: the time that is written into packages, so that two builds are alike. */
export const sourceEpoch = (): string =>
  process.env['SOURCE_DATE_EPOCH'] ?? run('git', ['log', '-1', '--format=%ct']).trim()

/** @returns the file that was packed, in `to` */
export const npmPack = (folder: string, to: string): string => {
  const out = run('npm', ['pack', folder, '--pack-destination', to, '--ignore-scripts', '--json'])
  const [packed] = z.array(z.looseObject({ filename: z.string() })).parse(JSON.parse(out))
  return join(to, packed!.filename)
}
