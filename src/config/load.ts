import { join, relative, resolve } from 'node:path'
import { z } from 'zod'
import { readTextFile, readTextFiles } from './folder.ts'
import { checkReferences } from './checks/references.ts'
import { clientSchema } from './client.ts'
import { downstreamSchema } from './downstream.ts'
import { apiSchema } from './api.ts'
import { API_FOLDER, compileApis } from './compile-apis.ts'
import { hostTools } from './hosted-tools.ts'
import type { Loaded } from './loaded.ts'
import { parsedOnce, type ParseFile } from './parsed-once.ts'
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

interface Documents<Schema extends z.ZodType> {
  readonly folder: string
  readonly schema: Schema
  /** The field that holds a document's id. */
  readonly key: keyof z.output<Schema> & string
  /** A document for another environment is checked like every other and left out: its id may be used there again. */
  readonly isMeant?: (value: z.output<Schema>, id: string) => boolean
  /** Default: each file is parsed anew. */
  readonly parse?: ParseFile<Schema>
}

/** Reads every `*.yaml` of a folder; a missing folder holds nothing. @param problems gets what is wrong with them */
const readFolder = async <Schema extends z.ZodType>(
  home: string,
  {
    folder,
    schema,
    key,
    isMeant = () => true,
    parse = (file, text) => parseYamlFile(file, text, schema),
  }: Documents<Schema>,
  problems: Problem[],
): Promise<Map<string, Located<z.output<Schema>>>> => {
  const found = new Map<string, Located<z.output<Schema>>>()
  const shownAs = relative(home, folder).startsWith('..') ? folder : relative(home, folder)
  for (const { file: shown, text } of await readTextFiles(
    { folder, shownAs, isWanted: (name) => /\.ya?ml$/.test(name) },
    problems,
  )) {
    const parsed = parse(shown, text)
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
  const schema = z.looseObject({ [key]: z.string(), environment: z.string().optional() })
  const isMeant = (value: z.output<typeof schema>): boolean => isOfEnvironment(value, environment)
  const found = await readFolder(home, { folder: join(home, folder), schema, key, isMeant }, [])
  return new Map([...found].map(([id, { file }]) => [id, file]))
}

const parseShipped = parsedOnce(providerSchema)

/** The provider files that come with Deputy, and those of the home, which override them. @param problems gets what is wrong with them */
export const readProviders = async (
  home: string,
  shipped: string,
  problems: Problem[],
): Promise<Map<string, Located<Provider>>> =>
  new Map([
    ...(await readFolder(
      home,
      { folder: shipped, schema: providerSchema, key: 'provider', parse: parseShipped },
      problems,
    )),
    ...(await readFolder(home, { folder: join(home, 'providers'), schema: providerSchema, key: 'provider' }, problems)),
  ])

const valuesOf = <Value>(located: ReadonlyMap<string, Located<Value>>): Map<string, Value> =>
  new Map([...located].map(([id, { value }]) => [id, value]))

/** Reads deputy.yaml. @returns undefined settings where the file is missing or wrong, which `problems` then says */
const readSettings = async (
  home: string,
  problems: Problem[],
): Promise<{ readonly isThere: boolean; readonly settings: Located<Settings> | undefined }> => {
  const text = await readTextFile(join(home, SETTINGS_FILE), SETTINGS_FILE, problems)
  if (text === undefined) {
    if (problems.length === 0)
      problems.push({
        file: SETTINGS_FILE,
        line: 1,
        message: `There is no ${SETTINGS_FILE} in ${home}.`,
        fix: `Run: deputy init ${home}`,
      })
    return { isThere: false, settings: undefined }
  }
  const parsed = parseYamlFile(SETTINGS_FILE, text, settingsSchema)
  problems.push(...parsed.problems)
  const [settings, second] = parsed.values
  if (second !== undefined)
    problems.push({
      file: SETTINGS_FILE,
      line: second.lineOf([]),
      message: 'A second YAML document begins here, and the settings are one document.',
      fix: 'Remove the line with ---, and the document that does not apply.',
    })
  return { isThere: true, settings }
}

/** Reads the folders of documents, except for the rotation policies, whose folder the settings name. */
const readDocuments = async (
  { home, shippedProviders }: { readonly home: string; readonly shippedProviders: string },
  environment: string | undefined,
  problems: Problem[],
) => {
  const elsewhere = new Set<string>()
  const isMeant = (value: { readonly environment?: string | undefined }, id: string): boolean => {
    const meant = environment === undefined || isOfEnvironment(value, environment)
    if (!meant) elsewhere.add(id)
    return meant
  }
  const read = <Schema extends z.ZodType>(name: string, documents: Omit<Documents<Schema>, 'folder'>) =>
    readFolder(home, { folder: join(home, name), ...documents }, problems)
  return {
    tenants: await read('tenants', { schema: tenantSchema, key: 'tenant' }),
    servers: await read('servers', { schema: serverSchema, key: 'server', isMeant }),
    downstreams: await read('downstreams', { schema: downstreamSchema, key: 'downstream', isMeant }),
    clients: await read('clients', { schema: clientSchema, key: 'client', isMeant }),
    providers: await readProviders(home, shippedProviders, problems),
    apis: await read(API_FOLDER, { schema: apiSchema, key: 'api', isMeant }),
    elsewhere,
  }
}

const snapshotOf = (generation: number, loaded: Loaded): Snapshot => ({
  generation,
  home: loaded.home,
  settings: loaded.settings.value,
  tenants: valuesOf(loaded.tenants),
  ...hostTools(valuesOf(loaded.servers), loaded.compiled),
  downstreams: valuesOf(loaded.downstreams),
  providers: valuesOf(loaded.providers),
  clients: valuesOf(loaded.clients),
  rotations: valuesOf(loaded.rotations),
  apis: loaded.compiled,
})

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
  const { home, generation } = options
  const problems: Problem[] = []
  const { isThere, settings } = await readSettings(home, problems)
  if (!isThere) return { snapshot: undefined, problems }
  const { elsewhere, ...documents } = await readDocuments(options, settings?.value.environment, problems)
  if (settings === undefined) return { snapshot: undefined, problems }
  const rotations = await readFolder(
    home,
    {
      folder: rotationPolicies({ home, settings: settings.value }),
      schema: rotationPolicySchema,
      key: 'rotation',
    },
    problems,
  )
  const compiled = await compileApis(home, documents, problems)
  const loaded: Loaded = { home, settings, ...documents, rotations, compiled }
  problems.push(...checkReferences(loaded))
  if (problems.length > 0) return { snapshot: undefined, problems }
  const locatedIn = (...folders: readonly ReadonlyMap<string, Located<unknown>>[]): Located<unknown>[] =>
    folders.flatMap((folder) => [...folder.values()])
  const { tenants, servers, downstreams, providers, clients, apis } = loaded
  return {
    problems,
    warnings: [settings, ...locatedIn(tenants, servers, downstreams, providers, clients, rotations, apis)].flatMap(
      ({ warnings = [] }) => warnings,
    ),
    elsewhere,
    privateFiles: privateFilesIn(home, [settings, ...locatedIn(tenants, downstreams, rotations)]),
    snapshot: snapshotOf(generation, loaded),
  }
}
