/**
 * Writes the generated parts of the documentation: errors, settings, providers, and which tests hold which
 * promise, each out of the code or data that it describes. `--check` writes nothing and fails when a file is stale, or
 * when a page names a path, link, npm script or command that does not exist.
 * Usage: node scripts/docs.ts [--check]
 */
import { readFileSync } from 'node:fs'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { apiSchema } from '../src/config/api.ts'
import { clientSchema } from '../src/config/client.ts'
import { downstreamSchema } from '../src/config/downstream.ts'
import { formatProblem } from '../src/config/problem.ts'
import { readKnownServers } from '../src/config/known-server.ts'
import { providerSchema, type Provider } from '../src/config/provider.ts'
import { rotatorSchema } from '../src/config/rotators.ts'
import { rotationPolicySchema } from '../src/config/rotation-policy.ts'
import { serverSchema } from '../src/config/server.ts'
import { settingsSchema } from '../src/config/settings.ts'
import { tenantSchema } from '../src/config/tenant.ts'
import {
  durationSchema,
  fileModeSchema,
  idSchema,
  listenAddressSchema,
  resourceSchema,
  scopeSchema,
  secretReferenceSchema,
  urlSchema,
} from '../src/config/values.ts'
import { parseYamlFile } from '../src/config/yaml-file.ts'
import { taxonomy } from '../src/errors.ts'
import { roomRows, wingsPicture } from './architecture.ts'
import { wrongCommands } from './docs-commands.ts'
import { missingIn, unnamedFolders } from './docs-paths.ts'

const ROOT = join(import.meta.dirname, '..')

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ')
const code = (text: string): string => `\`${text}\``
const table = (header: readonly string[], rows: readonly (readonly string[])[]): string =>
  [header, header.map(() => '---'), ...rows].map((row) => `| ${row.map(cell).join(' | ')} |`).join('\n')

// Errors

const errors = (): string => {
  const categories = new Set(Object.values(taxonomy).map(({ category }) => category))
  return [...categories]
    .map(
      (category) =>
        `### ${category}\n\n${table(
          ['`reason`', 'HTTP', '`error`', 'Retry', 'What happened', '`next`'],
          Object.entries(taxonomy)
            .filter(([, kind]) => kind.category === category)
            .map(([reason, { status, oauth, retryable, sentence, next }]) => [
              code(reason),
              String(status),
              code(oauth),
              retryable ? 'yes' : 'no',
              sentence,
              next,
            ]),
        )}`,
    )
    .join('\n\n')
}

// Settings

type Json = z.core.JSONSchema.BaseSchema & { kind?: string; shownDefault?: unknown }

/** The checks that make a value of `values.ts` what it is; a schema that was described or made optional keeps them. */
const checksOf = (schema: z.core.$ZodType): readonly unknown[] => {
  const { in: inner, checks = [] } = schema._zod.def as { in?: z.core.$ZodType; checks?: unknown[] }
  return inner === undefined ? checks : [...checksOf(inner), ...checks]
}

const kinds: readonly (readonly [z.ZodType, string])[] = [
  [idSchema, 'id'],
  [durationSchema, 'length of time'],
  [scopeSchema, 'scope'],
  [urlSchema, 'http(s) URL'],
  [resourceSchema, 'absolute URI'],
  [listenAddressSchema, 'host:port'],
  [fileModeSchema, 'file mode'],
]

const kindOf = (schema: z.core.$ZodType): string | undefined => {
  const checks = checksOf(schema)
  return kinds.find(([known]) => checks.includes(checksOf(known)[0]))?.[1]
}

const toJsonSchema = (schema: z.ZodType): Json =>
  z.toJSONSchema(schema, {
    io: 'input',
    unrepresentable: 'any',
    reused: 'inline',
    override({ zodSchema, jsonSchema }) {
      const kind = kindOf(zodSchema)
      if (kind !== undefined) Object.assign(jsonSchema, { kind })
      const { def } = zodSchema._zod
      if (def.type === 'default')
        Object.assign(jsonSchema, { shownDefault: (def as { defaultValue?: unknown }).defaultValue })
    },
  }) as Json

const secretReference = JSON.stringify(stripped(toJsonSchema(secretReferenceSchema)))
/** The schema without its texts, to compare by. */
function stripped(schema: Json): unknown {
  const { description: _, $schema: _s, ...rest } = schema
  return rest
}
const isSecretReference = (schema: Json): boolean => JSON.stringify(stripped(schema)) === secretReference

const UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
] as const
const duration = (milliseconds: number): string => {
  const [unit, size] = UNITS.find(([, each]) => milliseconds % each === 0) ?? ['ms', 1]
  return `${milliseconds / size}${unit}`
}

/** A default in the form in which it is written in a file: the schemas keep it as it is after reading. */
const defaultText = ({ kind, shownDefault }: Json): string => {
  if (shownDefault === undefined) return ''
  if (kind === 'length of time') return code(duration(shownDefault as number))
  if (kind === 'file mode') return code(`"0${(shownDefault as number).toString(8)}"`)
  if (typeof shownDefault === 'object' && shownDefault !== null && 'port' in shownDefault) {
    const { host, port } = shownDefault as { host: string; port: number }
    return code(`${host}:${port}`)
  }
  return code(
    typeof shownDefault === 'string'
      ? /^[\w./:-]+$/.test(shownDefault)
        ? shownDefault
        : JSON.stringify(shownDefault)
      : JSON.stringify(shownDefault),
  )
}

const alternatives = ({ anyOf, oneOf }: Json): readonly Json[] => (anyOf ?? oneOf ?? []) as Json[]

const typeText = (schema: Json): string => {
  if (isSecretReference(schema)) return 'secret reference'
  if (schema.const !== undefined) return code(JSON.stringify(schema.const))
  if (schema.enum !== undefined) return schema.enum.map((value) => code(JSON.stringify(value))).join(', ')
  const options = alternatives(schema)
  if (options.length > 0) return [...new Set(options.map(typeText))].join(' or ')
  if (schema.kind !== undefined) return schema.kind
  if (schema.type === 'array') return `list of ${typeText((schema.items ?? {}) as Json).replace(/^block$/, 'blocks')}`
  if (schema.type === 'object')
    return schema.properties === undefined
      ? `map to ${typeText((schema.additionalProperties ?? {}) as Json).replace(/^block$/, 'blocks')}`
      : 'block'
  switch (schema.type) {
    case 'string':
      return 'text'
    case 'integer':
      return 'whole number'
    case 'boolean':
      return '`true` or `false`'
    case 'null':
      return '`null`'
    default:
      return 'any value'
  }
}

interface Row {
  readonly path: string
  readonly schema: Json
  readonly presence: 'required' | 'one of these' | 'optional'
}

/** Every setting, with the blocks before what is in them. */
const rowsOf = (schema: Json, path: string): Row[] => {
  if (isSecretReference(schema)) return []
  const properties = Object.entries((schema.properties ?? {}) as Record<string, Json>).flatMap(([name, inner]) => {
    const at = path === '' ? name : `${path}.${name}`
    return [
      {
        path: at,
        schema: inner,
        presence: schema.required?.includes(name) === true ? ('required' as const) : ('optional' as const),
      },
      ...rowsOf(inner, at),
    ]
  })
  // The forms of a choice are told apart by the setting that stands in each of them alone.
  const inner = alternatives(schema).flatMap((option) =>
    rowsOf(option, path).map((row, at) =>
      at > 0
        ? row
        : {
            ...row,
            schema: { description: option.description ?? '', ...row.schema },
            presence: 'one of these' as const,
          },
    ),
  )
  const items = schema.type === 'array' ? rowsOf(schema.items as Json, `${path}[]`) : []
  const values =
    typeof schema.additionalProperties === 'object' ? rowsOf(schema.additionalProperties as Json, `${path}.<name>`) : []
  return [...properties, ...inner, ...items, ...values]
}

const settingsTable = (schema: Json): string =>
  table(
    ['Setting', 'Value', 'Default', 'Meaning'],
    rowsOf(schema, '').map(({ path, schema: each, presence }) => [
      code(path),
      typeText(each),
      presence !== 'optional' ? presence : each.properties === undefined ? defaultText(each) : '',
      each.description ?? '',
    ]),
  )

const downstreams = (): string =>
  alternatives(toJsonSchema(downstreamSchema))
    .map((option) => {
      const { credential } = option.properties as Record<string, Json>
      return `### credential: ${String(credential?.const)}\n\n${settingsTable(option)}`
    })
    .join('\n\n')

const rotators = (): string =>
  alternatives(toJsonSchema(rotatorSchema))
    .map((option) => {
      const { rotator } = option.properties as Record<string, Json>
      return `#### rotator: ${String(rotator?.const)}\n\n${settingsTable(option)}`
    })
    .join('\n\n')

/** `how` has tables of its own. */
const rotations = (): string =>
  settingsTable(
    toJsonSchema(
      rotationPolicySchema
        .omit({ how: true })
        .extend({ how: z.unknown().describe('How: a rotator and its settings, see below.') }),
    ),
  )

// Providers

const readProviders = async (): Promise<Provider[]> => {
  const names = (await readdir(join(ROOT, 'providers'))).filter((name) => /\.ya?ml$/.test(name)).sort()
  const found: Provider[] = []
  for (const name of names) {
    const { values, problems } = parseYamlFile(
      `providers/${name}`,
      await readFile(join(ROOT, 'providers', name), 'utf8'),
      providerSchema,
    )
    if (problems.length > 0) throw new Error(problems.map(formatProblem).join('\n'))
    found.push(...values.map(({ value }) => value))
  }
  return found
}

const yesNo = (value: boolean): string => (value ? 'yes' : 'no')

const lifeOf = ({ access_token_lifetime: lifetime }: Provider): string =>
  typeof lifetime === 'number'
    ? `as it says, else ${lifetime / 60_000} min`
    : lifetime === 'never'
      ? 'as it says, else until revoked'
      : 'introspected'

/** What a provider does in its own way, in a word or two each. */
const quirksOf = ({
  scope_separator: separator,
  scope_parameter: parameter,
  offline_scope: offline,
  authorization_parameters: sent,
  token_requests: requests,
  answers,
  refresh,
  refresh_endpoint: endpoint,
}: Provider): string[] => [
  ...(separator === ',' ? ['scopes with commas'] : []),
  ...(answers.scope_separator === undefined || answers.scope_separator === separator
    ? []
    : [`granted scopes with ${answers.scope_separator === ',' ? 'commas' : 'spaces'}`]),
  ...(parameter === 'scope' ? [] : [`scopes in ${code(parameter)}`]),
  ...(offline === undefined ? [] : [`offline by ${code(offline)}`]),
  ...Object.entries(sent).map(([name, value]) => code(`${name}=${value}`)),
  ...(requests.body === 'json' ? ['JSON requests'] : []),
  ...Object.keys(requests.headers).map((name) => `sends ${code(name)}`),
  ...(requests.client_credentials_grant === 'client_credentials'
    ? []
    : [`grant ${code(requests.client_credentials_grant)}`]),
  ...(answers.errors === 'status'
    ? []
    : [answers.errors === 'ok_member' ? 'errors as `ok: false`' : 'errors with status 200']),
  ...(answers.token_under === undefined ? [] : [`token under ${code(answers.token_under)}`]),
  ...(refresh.ends_access_token ? ['a refresh ends the old access token'] : []),
  ...(refresh.redirect_uri ? ['a refresh names the redirect URI'] : []),
  ...(endpoint === undefined ? [] : ['refreshes elsewhere']),
]

const providers = async (): Promise<string> => {
  const all = await readProviders()
  if (all.length === 0) return 'This version ships no provider file.'
  return table(
    [
      '`provider`',
      'Service',
      'Variables',
      'Endpoints',
      'Client authentication',
      'PKCE',
      'Refresh token rotates',
      'Access token lives',
      'Told beside the token',
      'Revocation',
      'Quirks',
      'Sources',
    ],
    all.map((each) => [
      code(each.provider),
      each.name,
      Object.keys(each.variables).map(code).join(' '),
      each.discovery ? 'discovered' : 'in the file',
      code(each.client_authentication),
      code(each.pkce),
      each.refresh.rotates && each.refresh.leeway > 0
        ? `yes, leeway ${each.refresh.leeway / 60_000} min`
        : yesNo(each.refresh.rotates),
      lifeOf(each),
      each.response_fields.map(code).join(' '),
      code(each.revocation),
      quirksOf(each).join('; '),
      [...new Set(Object.values(each.sources))].map((url, at) => `[${at + 1}](${url})`).join(' '),
    ]),
  )
}

const KNOWN_REGISTRATION = {
  document: 'by a metadata document',
  dynamic: 'registers itself',
  manual: 'registered by hand',
} as const

const knownServers = async (): Promise<string> =>
  table(
    ['`--known`', 'Server', 'URL', 'Client', 'Notes', 'Sources'],
    [...(await readKnownServers(join(ROOT, 'providers/mcp'))).values()].map((each) => [
      code(each.known),
      each.name,
      code(each.mcp),
      each.registration === undefined ? 'not documented' : KNOWN_REGISTRATION[each.registration],
      each.notes.join(' '),
      [...new Set(Object.values(each.sources))].map((url, at) => `[${at + 1}](${url})`).join(' '),
    ]),
  )

// Tests of promises and threats

/** The numbers of a kind in a test's name: `promise 3: …`, `promise 5, threats 4 and 18: …`. */
const numbersIn = (text: string, kind: 'promise' | 'threat'): number[] =>
  [...text.matchAll(/['"`]((?:(?:promise|threat|requirement)s? [\d, and]*\d(?:, | and )?)+): /g)]
    .flatMap(([, prefix]) => [...prefix!.matchAll(new RegExp(`${kind}s? (\\d+(?:(?:, | and )\\d+)*)`, 'g'))])
    .flatMap(([, list]) => [...list!.matchAll(/\d+/g)].map(Number))

/** In which test files each number of a kind stands. */
const numbered = async (kind: 'promise' | 'threat'): Promise<Map<number, string[]>> => {
  const found = new Map<number, string[]>()
  const files = (await readdir(join(ROOT, 'test'), { recursive: true })).filter((name) => name.endsWith('.ts')).sort()
  for (const name of files) {
    const numbers = new Set(numbersIn(await readFile(join(ROOT, 'test', name), 'utf8'), kind))
    for (const number of numbers) found.set(number, [...(found.get(number) ?? []), `test/${name}`])
  }
  return found
}

/** `up` leads from the page's folder to the root. */
const testedIn = async (kind: 'promise' | 'threat', numbers: readonly number[], up = ''): Promise<string> => {
  const found = await numbered(kind)
  return table(
    [kind === 'promise' ? 'Promise' : 'Attack', 'Tests that carry its number'],
    numbers.map((number) => [
      String(number),
      found
        .get(number)
        ?.map((file) => `[${file}](${up}${file})`)
        .join(', ') ?? 'none yet',
    ]),
  )
}

const PROMISES = Array.from({ length: 10 }, (_, at) => at + 1)
const THREATS = Array.from({ length: 30 }, (_, at) => at + 1)

// OpenAPI documents

const countsSchema = z.record(
  z.string(),
  z.object({
    operations: z.int(),
    tools: z.int(),
    cycles: z.int(),
    cuts: z.int(),
    patterns: z.int(),
    refusals: z.int(),
  }),
)

/** What the converter makes of the documents of its tests, which write the counts. */
const openapiDocuments = async (): Promise<string> => {
  const counts = countsSchema.parse(JSON.parse(await readFile(join(ROOT, 'test/fixtures/openapi/counts.json'), 'utf8')))
  return table(
    ['Document', 'Operations', 'Tools', 'Cycles cut', 'Deep parts cut', 'Patterns left out', 'Refusals'],
    Object.entries(counts).map(([file, { operations, tools, cycles, cuts, patterns, refusals }]) => [
      code(file),
      ...[operations, tools, cycles, cuts, patterns, refusals].map(String),
    ]),
  )
}

// Files

const parts: Readonly<Record<string, Readonly<Record<string, () => string | Promise<string>>>>> = {
  'docs/local-api.md': { errors },
  'docs/configuration.md': {
    settings: () => settingsTable(toJsonSchema(settingsSchema)),
    tenant: () => settingsTable(toJsonSchema(tenantSchema)),
    server: () => settingsTable(toJsonSchema(serverSchema)),
    client: () => settingsTable(toJsonSchema(clientSchema)),
    downstream: downstreams,
    provider: () => settingsTable(toJsonSchema(providerSchema)),
    rotation: rotations,
    rotators,
  },
  'docs/apis.md': { api: () => settingsTable(toJsonSchema(apiSchema)), documents: openapiDocuments },
  'docs/architecture.md': { rooms: () => table(['Folder', 'What it is'], roomRows(ROOT)) },
  'docs/providers.md': { providers },
  'docs/remote-mcp.md': { known: knownServers },
  'docs/promises.md': { promises: () => testedIn('promise', PROMISES, '../') },
  'SECURITY.md': { threats: () => testedIn('threat', THREATS) },
}

/** Files that are generated as a whole. */
const wholes: Readonly<Record<string, () => string>> = {
  'docs/architecture.svg': () => wingsPicture(ROOT),
  'policies/rotation/schema.json': () =>
    `${JSON.stringify({ title: 'A rotation policy of Deputy', ...z.toJSONSchema(rotationPolicySchema, { io: 'input', unrepresentable: 'any' }) }, null, 2)}\n`,
}

/** The text with what stands between the markers of a part replaced. */
const withPart = (file: string, text: string, name: string, content: string): string => {
  const [open, close] = [`<!-- generated: ${name} (node scripts/docs.ts) -->`, `<!-- end: ${name} -->`]
  const [from, to] = [text.indexOf(open), text.indexOf(close)]
  if (from < 0 || to < from) throw new Error(`${file} has no markers for ${name}: ${open} and ${close}`)
  return `${text.slice(0, from + open.length)}\n\n${content}\n\n${text.slice(to)}`
}

const check = process.argv.includes('--check')
const stale: string[] = []
for (const [file, sections] of Object.entries(parts)) {
  const before = await readFile(join(ROOT, file), 'utf8')
  let after = before
  for (const [name, content] of Object.entries(sections)) after = withPart(file, after, name, await content())
  if (after === before) continue
  stale.push(file)
  if (!check) await writeFile(join(ROOT, file), after)
}
for (const [file, content] of Object.entries(wholes)) {
  if ((await readFile(join(ROOT, file), 'utf8').catch(() => '')) === content()) continue
  stale.push(file)
  if (!check) await writeFile(join(ROOT, file), content())
}

/** What pages and pictures name and the repository does not have. */
const missing = async (): Promise<string[]> => {
  const below = (await readdir(join(ROOT, 'docs'), { recursive: true })).map((name) => `docs/${name}`)
  const pages = ['README.md', 'SECURITY.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...below]
  pages.push('sdk/python/README.md', 'sdk/typescript/README.md')
  const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8')
  const { scripts } = z
    .object({ scripts: z.record(z.string(), z.string()) })
    .parse(JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')))
  const repository = { root: ROOT, read, scripts: new Set(Object.keys(scripts)) }
  const folders = (await readdir(join(ROOT, 'src'), { withFileTypes: true })).filter((each) => each.isDirectory())
  return [
    ...pages
      .filter((path) => /\.(?:md|svg)$/.test(path))
      .flatMap((path) => missingIn({ path, text: read(path) }, repository)),
    ...(await wrongCommands(
      ROOT,
      pages.filter((path) => path.endsWith('.md')),
    )),
    ...unnamedFolders(
      read('docs/architecture.md'),
      folders.map(({ name }) => name),
    ).map((name) => `docs/architecture.md does not describe src/${name}/`),
  ]
}

const gone = check ? await missing() : []
if (gone.length > 0) {
  process.stderr.write(`Named, and not in the repository:\n${gone.map((line) => `  ${line}\n`).join('')}`)
  process.exitCode = 1
}
if (check && stale.length > 0) {
  process.stderr.write(`Stale: ${stale.join(', ')}\nNext: node scripts/docs.ts\n`)
  process.exitCode = 1
} else if (gone.length === 0)
  process.stdout.write(
    check || stale.length === 0 ? 'The generated documentation is up to date.\n' : `Written: ${stale.join(', ')}\n`,
  )
