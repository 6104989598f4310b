import { join, relative, resolve } from 'node:path'
import { z } from 'zod'
import { readTextFile, readTextFiles } from './folder.ts'
import { checkReferences } from './references.ts'
import { downstreamSchema } from './downstream.ts'
import { privateFilesIn, type PrivateFile } from './private-files.ts'
import type { Problem } from './problem.ts'
import { providerSchema, type Provider } from './provider.ts'
import { rotationPolicySchema } from './rotation-policy.ts'
import { serverSchema } from './server.ts'
import { SETTINGS_FILE, settingsSchema, type Settings } from './settings.ts'
import type { Snapshot } from './snapshot.ts'
import { tenantSchema } from './tenant.ts'
import { isOfEnvironment } from './values.ts'
import { parseYamlFile, type Located } from './yaml-file.ts'

export type LoadResult =
  | {
      readonly snapshot: Snapshot
      readonly problems: readonly Problem[]
      readonly warnings: readonly Problem[]
      /** Ids of servers and downstreams that daemons of other environments see. */
      readonly elsewhere: ReadonlySet<string>
      readonly privateFiles: readonly PrivateFile[]
    }
  | { readonly snapshot: undefined; readonly problems: readonly Problem[] }

/**
 * Reads every `*.yaml` of a folder; a missing folder holds nothing.
 * @param isMeant what is not meant is checked like everything else, and is not there: another environment has the same ids
 */
const readFolder = async <Schema extends z.ZodType, Key extends keyof z.output<Schema> & string>(
  home: string,
  folder: string,
  schema: Schema,
  key: Key,
  problems: Problem[],
  isMeant: (value: z.output<Schema>, id: string) => boolean = () => true,
): Promise<Map<string, Located<z.output<Schema>>>> => {
  const found = new Map<string, Located<z.output<Schema>>>()
  const shownAs = relative(home, folder).startsWith('..') ? folder : relative(home, folder)
  for (const { file: shown, text } of await readTextFiles(
    { folder, shownAs, isWanted: (name) => /\.ya?ml$/.test(name) },
    problems,
  )) {
    const parsed = parseYamlFile(shown, text, schema)
    problems.push(...parsed.problems)
    for (const located of parsed.values) {
      const id = String((located.value as Record<string, unknown>)[key])
      if (!isMeant(located.value, id)) continue
      const twin = found.get(id)
      if (twin !== undefined)
        problems.push({
          file: shown,
          line: located.lineOf([key]),
          message: `${key} ${id} is defined in ${twin.file} already.`,
          fix: 'Give it another id, or remove one of the two.',
        })
      else found.set(id, located)
    }
  }
  return found
}

/** The folder of the rotation policies. */
export const rotationPolicies = ({ home, settings }: { home: string; settings: Settings }): string =>
  join(resolve(home, settings.policies), 'rotation')

/** In which file of a folder each id of an environment is defined, whether or not the rest of it is in order. */
export const loadLocations = async (
  home: string,
  folder: string,
  key: string,
  environment: string,
): Promise<Map<string, string>> => {
  const found = await readFolder(
    home,
    join(home, folder),
    z.looseObject({ [key]: z.string(), environment: z.string().optional() }),
    key,
    [],
    (value) => isOfEnvironment(value, environment),
  )
  return new Map([...found].map(([id, { file }]) => [id, file]))
}

/** The provider files that come with Deputy, and those of the home, which override them. @param problems gets what is wrong with them */
export const readProviders = async (
  home: string,
  shipped: string,
  problems: Problem[],
): Promise<Map<string, Located<Provider>>> =>
  new Map([
    ...(await readFolder(home, shipped, providerSchema, 'provider', problems)),
    ...(await readFolder(home, join(home, 'providers'), providerSchema, 'provider', problems)),
  ])

const valuesOf = <Value>(located: ReadonlyMap<string, Located<Value>>): Map<string, Value> =>
  new Map([...located].map(([id, { value }]) => [id, value]))

/**
 * Reads and checks all files of a configuration folder. All or nothing: with a single problem there is no snapshot,
 * and every problem is listed.
 * @param options.shippedProviders folder of the provider files that come with Deputy; files in the home override them
 */
export const loadConfiguration = async (options: {
  home: string
  shippedProviders: string
  generation: number
}): Promise<LoadResult> => {
  const { home } = options
  const problems: Problem[] = []
  const text = await readTextFile(join(home, SETTINGS_FILE), SETTINGS_FILE, problems)
  if (text === undefined && problems.length > 0) return { snapshot: undefined, problems }
  if (text === undefined) {
    return {
      snapshot: undefined,
      problems: [
        {
          file: SETTINGS_FILE,
          line: 1,
          message: `There is no ${SETTINGS_FILE} in ${home}.`,
          fix: `Run: deputy init ${home}`,
        },
      ],
    }
  }
  const parsed = parseYamlFile(SETTINGS_FILE, text, settingsSchema)
  problems.push(...parsed.problems)
  const tenants = await readFolder(home, join(home, 'tenants'), tenantSchema, 'tenant', problems)
  const [settings, second] = parsed.values
  if (second !== undefined)
    problems.push({
      file: SETTINGS_FILE,
      line: second.lineOf([]),
      message: 'A second YAML document begins here, and the settings are one.',
      fix: 'Remove the line with ---, and everything that is not meant.',
    })
  const elsewhere = new Set<string>()
  const isMeant = (value: { readonly environment?: string | undefined }, id: string): boolean => {
    const meant = settings === undefined || isOfEnvironment(value, settings.value.environment)
    if (!meant) elsewhere.add(id)
    return meant
  }
  const servers = await readFolder(home, join(home, 'servers'), serverSchema, 'server', problems, isMeant)
  const downstreams = await readFolder(
    home,
    join(home, 'downstreams'),
    downstreamSchema,
    'downstream',
    problems,
    isMeant,
  )
  const providers = await readProviders(home, options.shippedProviders, problems)
  if (settings === undefined) return { snapshot: undefined, problems }
  const rotations = await readFolder(
    home,
    rotationPolicies({ home, settings: settings.value }),
    rotationPolicySchema,
    'rotation',
    problems,
  )
  problems.push(...checkReferences({ home, settings, tenants, servers, downstreams, providers, rotations }))
  if (problems.length > 0) return { snapshot: undefined, problems }
  const folders: readonly ReadonlyMap<string, Located<unknown>>[] = [
    tenants,
    servers,
    downstreams,
    providers,
    rotations,
  ]
  return {
    problems,
    warnings: [settings, ...folders.flatMap((folder) => [...folder.values()])].flatMap(({ warnings = [] }) => warnings),
    elsewhere,
    privateFiles: privateFilesIn(home, [
      settings,
      ...[tenants, downstreams, rotations].flatMap((of) => [...of.values()] as Located<unknown>[]),
    ]),
    snapshot: {
      generation: options.generation,
      home,
      settings: settings.value,
      tenants: valuesOf(tenants),
      servers: valuesOf(servers),
      downstreams: valuesOf(downstreams),
      providers: valuesOf(providers),
      rotations: valuesOf(rotations),
    },
  }
}
