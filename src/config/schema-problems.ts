/** What a schema found wrong in a file, in words: what is written there, and what to write instead. */
import { isMap, isScalar, type Node } from 'yaml'
import { z } from 'zod'
import { didYouMean } from '#foundation/text'
import type { Problem } from './problem.ts'

type Path = readonly PropertyKey[]
type Issue = z.core.$ZodIssue

/** The file that the issues are about. */
export interface Source {
  readonly file: string
  readonly schema: z.ZodType
  lineOf(path: Path): number
  /** The value at a path as the file has it; undefined where there is none. */
  nodeAt(path: Path): Node | undefined
}

type JsonSchema = z.core.JSONSchema.JSONSchema

/** Members of zod's issue of a discriminated union that its type does not declare. */
const discriminatorSchema = z.looseObject({ discriminator: z.string(), options: z.array(z.coerce.string()) })

/** Settings whose text is not repeated: the file may hold the secret itself in the place of a reference to it. */
const SECRET_NAME = /secret|password|passwd|token|private|credential|key|kek|jwk|authorization/i
/** Longer texts are not repeated. */
const SHOWN_LENGTH = 60

const nameOf = (path: Path): string => path.map(String).join('.')

/** The path as messages show it: an item of a list that has a name, such as an audit sink, is named: `sinks.0 (siem).url`. */
const shownPath = ({ nodeAt }: Source, path: Path): string =>
  path
    .map((step, at) => {
      const item = typeof step === 'number' && at < path.length - 1 ? nodeAt(path.slice(0, at + 1)) : undefined
      const name = isMap(item) ? item.get('name') : undefined
      return typeof name === 'string' && path[at + 1] !== 'name' ? `${String(step)} (${name})` : String(step)
    })
    .join('.')

/** The JSON Schemas that a value at this path may follow; unions have several. */
const schemasAt = (schema: JsonSchema, path: Path, root: JsonSchema): JsonSchema[] => {
  if (schema.$ref !== undefined) {
    const target = root.$defs?.[schema.$ref.split('/').at(-1)!]
    return typeof target === 'object' ? schemasAt(target, path, root) : []
  }
  const ways = [...(schema.anyOf ?? []), ...(schema.oneOf ?? []), ...(schema.allOf ?? [])]
  if (ways.length > 0) return ways.flatMap((way) => schemasAt(way as JsonSchema, path, root))
  const [step, ...rest] = path
  if (step === undefined) return [schema]
  const next =
    typeof step === 'number' ? schema.items : (schema.properties?.[String(step)] ?? schema.additionalProperties)
  return typeof next === 'object' && !Array.isArray(next) ? schemasAt(next as JsonSchema, rest, root) : []
}

const schemasOf = ({ schema }: Source, path: Path): JsonSchema[] => {
  const root = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' })
  return schemasAt(root as JsonSchema, path, root as JsonSchema)
}

/** As what YAML has read it: `the number 0660`, `a list`. */
const describe = (path: Path, input: unknown, node: Node | undefined): string => {
  const written = isScalar(node) && typeof node.source === 'string' ? node.source : String(input)
  if (input === null) return written === '' || written === 'null' ? 'empty' : written
  if (Array.isArray(input)) return 'a list'
  if (typeof input === 'object') return 'a group of settings'
  if (typeof input === 'string')
    return SECRET_NAME.test(nameOf(path)) || input.length > SHOWN_LENGTH
      ? 'a text'
      : `the text ${JSON.stringify(input)}`
  return `the ${typeof input} ${written}`
}

/** What stands in the file, for a fix that repeats it; undefined where it should not be repeated. */
const writtenAt = (path: Path, input: unknown, node: Node | undefined): string | undefined => {
  if (SECRET_NAME.test(nameOf(path)) || input === null || typeof input === 'object') return undefined
  const written = isScalar(node) && typeof node.source === 'string' ? node.source : String(input)
  return written.length > SHOWN_LENGTH ? undefined : written
}

/** The page that lists the settings of a file. */
const pageOf = ({ file }: Source): string => (file.startsWith('apis/') ? 'docs/apis.md' : 'docs/configuration.md')

const lastOf = (path: Path): string => {
  const last = path.at(-1)
  return last === undefined || typeof last === 'number' ? '' : `${String(last)}: `
}

const NO: ReadonlySet<string> = new Set(['no', 'off', 'n', 'false'])
const YES: ReadonlySet<string> = new Set(['yes', 'on', 'y', 'true'])

/** What to write instead of a value of the wrong type. */
const fixFor = (expected: string, path: Path, input: unknown, node: Node | undefined): string => {
  const [name, written] = [lastOf(path), writtenAt(path, input, node)]
  const word = String(input).toLowerCase()
  switch (expected) {
    case 'string':
      return written === undefined
        ? `Write a text${name === '' ? '' : ` after ${name.trim()}`}.`
        : `Write it in quotes: ${name}"${written}".`
    case 'boolean':
      return NO.has(word) ? `Write ${name}false.` : YES.has(word) ? `Write ${name}true.` : 'Write true or false.'
    case 'number':
    case 'int':
      return 'Write a number, without quotes.'
    case 'array':
      return written === undefined
        ? 'Write a list: one item a line, each after a dash.'
        : `Write a list: ${name}[${written}].`
    case 'object':
    case 'record':
      return `Write its settings below it, indented; docs/configuration.md lists them.`
    default:
      return 'docs/configuration.md shows the form.'
  }
}

const EXPECTED: Readonly<Record<string, string>> = {
  string: 'a text',
  boolean: 'true or false',
  number: 'a number',
  int: 'a whole number',
  array: 'a list',
  object: 'a group of settings',
  record: 'a group of settings',
}

/** One form of several that a value can have, from what each of the schemas says of it. */
const formOf = (issues: readonly Issue[]): string | undefined => {
  const [own] = issues.filter(({ path }) => path.length === 0)
  if (own === undefined) return undefined
  if (own.code === 'invalid_value') return own.values.map((value) => JSON.stringify(value)).join(' or ')
  if (own.code === 'invalid_type') return EXPECTED[own.expected] ?? own.expected
  return isOwnWord(own.message) ? own.message.replace(/^write /, '') : undefined
}

/** A message of a schema of Deputy's, not one that the library makes up. */
const isOwnWord = (message: string): boolean => !/^(Invalid|Too |Unrecognized|Expected)/.test(message)

const unknownKeys = (source: Source, path: Path, keys: readonly string[]): Problem[] => {
  const known = schemasOf(source, path).flatMap(({ properties }) => Object.keys(properties ?? {}))
  return keys.map((key) => ({
    file: source.file,
    line: source.lineOf([...path, key]),
    message: `${shownPath(source, [...path, key])} is no known setting.`,
    fix: `${didYouMean(key, known) || 'Correct the name or remove it.'} ${pageOf(source)} lists every setting.`,
  }))
}

const ofUnion = (source: Source, issue: Issue & { code: 'invalid_union' }): Problem[] => {
  const place = { file: source.file, line: source.lineOf(issue.path) }
  const name = shownPath(source, issue.path) || 'the file'
  const input = source.nodeAt(issue.path)
  const discriminated = discriminatorSchema.safeParse(issue).data
  if (discriminated !== undefined) {
    const value = isScalar(input) ? String(input.value) : undefined
    const { options } = discriminated
    return [
      {
        ...place,
        message:
          value === undefined
            ? `${name} is missing.`
            : `${name} is ${JSON.stringify(value)}, which is none of those that exist.`,
        fix: `${value === undefined ? '' : `${didYouMean(value, options)} `.trimStart()}It can be: ${options.join(', ')}.`,
      },
    ]
  }
  // The alternative that came furthest says best what was meant.
  const nearest = [...issue.errors].sort((a, b) => depth(b) - depth(a) || a.length - b.length)[0] ?? []
  if (nearest.length > 0 && depth(nearest) > 0)
    return nearest.flatMap((inner) => toProblems(source, { ...inner, path: [...issue.path, ...inner.path] }))
  const forms = [...new Set(issue.errors.flatMap((errors) => formOf(errors) ?? []))]
  const written = isScalar(input) ? writtenAt(issue.path, input.value, input) : undefined
  const list =
    forms.includes('a list') && written !== undefined ? `, for example ${lastOf(issue.path)}[${written}]` : ''
  return [
    {
      ...place,
      message:
        input === undefined
          ? `${name} is missing.`
          : `${name} is ${describe(issue.path, isScalar(input) ? input.value : issue.input, input)}.`,
      fix: isOwnWord(issue.message)
        ? sentence(issue.message)
        : forms.length === 0
          ? 'See docs/configuration.md for the forms.'
          : `It can be ${forms.join(', or ')}${list}.`,
    },
  ]
}

/** An issue of a schema as problems of the file. */
export const toProblems = (source: Source, issue: Issue): Problem[] => {
  if (issue.code === 'unrecognized_keys') return unknownKeys(source, issue.path, issue.keys)
  if (issue.code === 'invalid_union') return ofUnion(source, issue)
  const { path } = issue
  const node = source.nodeAt(path)
  const place = { file: source.file, line: source.lineOf(path) }
  const name = shownPath(source, path) || 'the file'
  if (
    issue.input === undefined &&
    node === undefined &&
    (issue.code === 'invalid_type' || issue.code === 'invalid_value')
  )
    return [
      {
        ...place,
        message: `${name} is missing.`,
        fix: `Add ${String(path.at(-1))}; ${pageOf(source)} says what it is.`,
      },
    ]
  if (issue.code === 'invalid_type') {
    const own = isOwnWord(issue.message)
    return [
      {
        ...place,
        message: `${name} is ${describe(path, issue.input, node)}, not ${EXPECTED[issue.expected] ?? issue.expected}.`,
        fix: own ? sentence(issue.message) : fixFor(issue.expected, path, issue.input, node),
      },
    ]
  }
  if (issue.code === 'invalid_value') {
    const options = issue.values.map(String)
    return [
      {
        ...place,
        message: `${name} is ${describe(path, issue.input, node)}, which is none of those that exist.`,
        fix: [didYouMean(String(issue.input), options), `It can be: ${options.join(', ')}.`]
          .filter((each) => each !== '')
          .join(' '),
      },
    ]
  }
  if (issue.code === 'invalid_key')
    return issue.issues.map(({ message }) => ({ ...place, message: `${name}: ${message}.`, fix: 'Correct the name.' }))
  return [{ ...place, message: `${name}: ${issue.message}.`, fix: `${pageOf(source)} shows the form.` }]
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`

const depth = (issues: readonly Issue[]): number =>
  Math.max(0, ...issues.map(({ path, code }) => path.length + (code === 'unrecognized_keys' ? -1 : 0)))
