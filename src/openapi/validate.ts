/** Whether values are as a schema says. Schemas are compiled when they are first needed. */
import type { ErrorObject, ValidateFunction } from 'ajv'
import { isDeeperThan } from './json.ts'
import type { ApiTool, JsonSchema } from './tool.ts'

interface Compiler {
  compile(schema: JsonSchema): ValidateFunction
}

/**
 * Whether a function goes on after the first difference. Each costs memory, so that only short values are looked
 * through.
 */
export type Finds = 'all' | 'first'

/** By the schema itself: those of a configuration that was replaced are collected with it. */
const compiled: Readonly<Record<Finds, WeakMap<JsonSchema, ValidateFunction>>> = {
  all: new WeakMap(),
  first: new WeakMap(),
}

const compilers: Partial<Record<Finds, Promise<Compiler>>> = {}

const createCompiler = async (finds: Finds): Promise<Compiler> => {
  const { Ajv2020 } = await import('ajv/dist/2020.js')
  const ajv = new Ajv2020({
    strict: false,
    validateFormats: false,
    validateSchema: false,
    allErrors: finds === 'all',
    // `constructor` is a member of an object only where the caller sent it.
    ownProperties: true,
    unicodeRegExp: true,
    // A function is made once for each tool, while others wait, and without it in half the time.
    code: { optimize: false },
    logger: false,
    addUsedSchema: false,
  })
  return {
    compile(schema) {
      const validate = ajv.compile(schema)
      // The instance would keep every schema that it has ever seen.
      ajv.removeSchema(schema)
      return validate
    },
  }
}

const LARGEST = Number.MAX_SAFE_INTEGER

/**
 * A schema whose integers end where JSON in JavaScript can no longer tell one from the next: such a value has already
 * become another one.
 */
const withSafeIntegers = (schema: unknown): unknown => {
  if (Array.isArray(schema)) return schema.map(withSafeIntegers)
  if (typeof schema !== 'object' || schema === null) return schema
  const { type } = schema as JsonSchema
  const inner = Object.fromEntries(
    Object.entries(schema).map(([key, each]) => [
      key,
      key === 'enum' || key === 'default' ? each : withSafeIntegers(each),
    ]),
  )
  return type === 'integer' || (Array.isArray(type) && type.includes('integer') && !type.includes('number'))
    ? { minimum: -LARGEST, maximum: LARGEST, ...inner }
    : inner
}

/** How a value is compared. */
interface Comparison {
  readonly finds?: Finds
  /** What is compiled in place of the schema; the same function for the same schema. */
  readonly prepare?: (schema: JsonSchema) => JsonSchema
  /** What the value is, where a sentence is about all of it. */
  readonly whole?: string
}

/** The function that checks values against a schema. */
export const validatorOf = async (
  schema: JsonSchema,
  { finds = 'all', prepare = (each) => each }: Comparison = {},
): Promise<ValidateFunction> => {
  const known = compiled[finds].get(schema)
  if (known !== undefined) return known
  const made = (await (compilers[finds] ??= createCompiler(finds))).compile(prepare(schema))
  compiled[finds].set(schema, made)
  return made
}

const ARGUMENTS = 'The arguments'

/** More would not help a model that corrects its call. */
const MAX_TOLD = 10

const wordsOf = ({ instancePath, keyword, params, message }: ErrorObject, whole: string): string => {
  const place = instancePath === '' ? whole : instancePath.slice(1).replaceAll('/', '.').slice(0, 100)
  if (keyword === 'additionalProperties')
    return `${place}: there is no ${JSON.stringify(String(params.additionalProperty).slice(0, 100))}.`
  if (keyword === 'required') return `${place}: ${JSON.stringify(params.missingProperty)} is missing.`
  if (keyword === 'enum') return `${place}: it can be ${JSON.stringify(params.allowedValues).slice(0, 500)}.`
  return `${place}: ${message ?? keyword}.`
}

/** What is wrong with a value, in sentences without the value itself; none where it is as the schema says. */
export const deviationsOf = async (
  schema: JsonSchema,
  value: unknown,
  comparison: Comparison = {},
): Promise<string[]> => {
  const { whole = ARGUMENTS } = comparison
  const validate = await validatorOf(schema, comparison)
  if (validate(value)) return []
  const errors = validate.errors ?? []
  validate.errors = null
  return [...new Set(errors.slice(0, 5 * MAX_TOLD).map((error) => wordsOf(error, whole)))].slice(0, MAX_TOLD)
}

/** Deeper values were not written by a caller who means what a schema says. */
const MAX_DEPTH = 64

/**
 * What is wrong with the arguments of a call, in sentences for the model that made it.
 * @param whole what the value is, if it is not arguments
 */
export const validateArguments = async (
  { inputSchema }: Pick<ApiTool, 'inputSchema'>,
  args: unknown,
  whole = ARGUMENTS,
): Promise<string[]> =>
  isDeeperThan(MAX_DEPTH, args)
    ? [`${whole} are nested deeper than ${MAX_DEPTH} levels.`]
    : deviationsOf(inputSchema, args, { prepare: withSafeIntegers as (schema: JsonSchema) => JsonSchema, whole })
