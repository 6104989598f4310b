/** Real documents convert, and what they become is what clients take. Each is converted once. */
import { Validator } from '@cfworker/json-schema'
import { specTypeSchemas } from '@modelcontextprotocol/client'
import { describe, expect, it } from 'vitest'
import {
  type Candidate,
  candidates,
  describeTool,
  type JsonSchema,
  validateArguments,
} from '../../src/openapi/index.ts'
import { anApi, DOCUMENTS, openDocument } from '../support/openapi-documents.ts'

const TYPES: ReadonlySet<string> = new Set(['null', 'boolean', 'object', 'array', 'number', 'string', 'integer'])

const isCount = (value: unknown): boolean => Number.isInteger(value) && Number(value) >= 0
const isNumber = (value: unknown): boolean => typeof value === 'number'
const isText = (value: unknown): boolean => typeof value === 'string'
const isOneOf =
  (...values: readonly unknown[]) =>
  (value: unknown): boolean =>
    values.includes(value)
const isScalar = (value: unknown): boolean => value === null || ['string', 'number', 'boolean'].includes(typeof value)
const isFilled = (value: unknown): boolean => Array.isArray(value) && value.length > 0

/** The dialect that reaches clients: 2020-12 without references, without schemas that are booleans, without keywords that strict clients refuse. */
const KEYWORDS: Readonly<Record<string, (value: unknown) => boolean>> = {
  type: (value) => (Array.isArray(value) ? value : [value]).every((each) => TYPES.has(each as string)),
  description: (value) => isText(value) && String(value).length <= 1200,
  enum: (value) => isFilled(value) && (value as unknown[]).every(isScalar),
  const: isScalar,
  default: isScalar,
  properties: (value) => typeof value === 'object',
  required: isFilled,
  additionalProperties: (value) => value === false || typeof value === 'object',
  items: (value) => typeof value === 'object',
  prefixItems: isFilled,
  anyOf: isFilled,
  allOf: isFilled,
  not: (value) => JSON.stringify(value) === '{}',
  pattern: (value) => isText(value) && String(value).length <= 200,
  format: (value) => Object.hasOwn(SAMPLES, String(value)),
  contentEncoding: isOneOf('base64'),
  contentMediaType: isOneOf('application/octet-stream'),
  minimum: isNumber,
  maximum: isNumber,
  exclusiveMinimum: isNumber,
  exclusiveMaximum: isNumber,
  multipleOf: isCount,
  minLength: isCount,
  maxLength: isCount,
  minItems: isCount,
  maxItems: isCount,
  uniqueItems: isOneOf(true),
  minProperties: isCount,
  maxProperties: isCount,
}

/** Keywords that are not of the dialect, or not of its form, in a schema and those inside of it. */
const wrongIn = (schema: JsonSchema): string[] => {
  const inner = [
    ...Object.values((schema.properties ?? {}) as Record<string, JsonSchema>),
    ...['anyOf', 'allOf', 'prefixItems'].flatMap((name) => (schema[name] ?? []) as JsonSchema[]),
    ...['items', 'additionalProperties'].flatMap((name) =>
      typeof schema[name] === 'object' ? [schema[name] as JsonSchema] : [],
    ),
  ]
  const own = Object.entries(schema).filter(([name, value]) => KEYWORDS[name]?.(value) !== true)
  return [...own.map(([name, value]) => `${name}: ${JSON.stringify(value)}`), ...inner.flatMap(wrongIn)]
}

const SAMPLES: Readonly<Record<string, string>> = {
  'date-time': '2026-01-05T10:00:00Z',
  date: '2026-01-05',
  time: '10:00:00Z',
  duration: 'P1D',
  email: 'a@example.com',
  hostname: 'example.com',
  ipv4: '192.0.2.1',
  ipv6: '2001:db8::1',
  uri: 'https://example.com',
  password: 'secret',
  uuid: '4f0a6c1e-7d43-4f6c-9a6b-3f4f5e6d7c8b',
}

/** A value that a schema takes, as small as it can be. */
const sampleOf = (schema: JsonSchema): unknown => {
  if ('default' in schema) return schema.default
  if ('const' in schema) return schema.const
  if (Array.isArray(schema.enum)) return schema.enum[0]
  const [form] = (schema.anyOf ?? []) as JsonSchema[]
  if (form !== undefined && schema.type === undefined) return sampleOf(form)
  const type: unknown = Array.isArray(schema.type) ? schema.type[0] : schema.type
  if (type === 'object')
    return Object.fromEntries(
      ((schema.required ?? []) as string[]).map((name) => [
        name,
        sampleOf((schema.properties as Record<string, JsonSchema>)[name] ?? {}),
      ]),
    )
  if (type === 'array')
    return Array.from({ length: Number(schema.minItems ?? 0) }, () => sampleOf((schema.items ?? {}) as JsonSchema))
  if (type === 'integer' || type === 'number')
    return (
      schema.minimum ??
      (schema.exclusiveMinimum === undefined ? (schema.maximum ?? 1) : Number(schema.exclusiveMinimum) + 1)
    )
  if (typeof schema.format === 'string') return SAMPLES[schema.format]
  if (type === 'string') return 'a'.repeat(Math.max(1, Number(schema.minLength ?? 1)))
  return type === 'boolean' ? true : null
}

const sum = (all: readonly Candidate[], key: keyof Candidate['losses']): number =>
  all.reduce((total, { losses }) => total + losses[key], 0)

/** Each tenth tool: a schema is compiled in milliseconds, and there are thousands. */
const some = <Value>(all: readonly Value[]): Value[] => all.filter((_, at) => at % 10 === 0)

const counts: Record<string, object> = {}

describe('real documents', () => {
  for (const [file, baseUrl] of DOCUMENTS)
    it(`converts ${file}`, { timeout: 30_000 }, async () => {
      const document = await openDocument(file)
      const all = candidates(document, anApi(baseUrl === undefined ? {} : { base_url: baseUrl }))
      const tools = all.flatMap(({ tool }) => tool ?? [])
      counts[file.replace(/\.gz$/, '')] = {
        operations: all.length,
        tools: tools.length,
        cycles: sum(all, 'cycles'),
        cuts: sum(all, 'cuts'),
        patterns: sum(all, 'patterns'),
        refusals: all.length - tools.length,
      }
      expect(new Set(tools.map(({ name }) => name)).size).toBe(tools.length)
      for (const { name, inputSchema, outputSchema } of tools) {
        expect(name).toMatch(/^[A-Za-z0-9_-]{1,64}$/)
        expect(Object.keys(inputSchema.properties as object).every((each) => /^[A-Za-z0-9_.-]{1,64}$/.test(each))).toBe(
          true,
        )
        for (const schema of [inputSchema, ...(outputSchema === undefined ? [] : [outputSchema])]) {
          expect(schema.type).toBe('object')
          expect(wrongIn(schema)).toEqual([])
          expect(JSON.stringify(schema).length).toBeLessThan(40_000)
        }
        if (outputSchema !== undefined) expect(new Validator(outputSchema, '2020-12').validate({}).valid).toBe(true)
      }
      const listed = specTypeSchemas.ListToolsResult['~standard'].validate({ tools: tools.map(describeTool) })
      expect('issues' in listed ? listed.issues : undefined).toBeUndefined()
      for (const tool of some(tools)) {
        const sample = sampleOf(tool.inputSchema) as Record<string, unknown>
        const other = new Validator(tool.inputSchema as object, '2020-12')
        expect({ tool: tool.name, valid: other.validate(sample).valid }).toEqual({
          tool: tool.name,
          valid: (await validateArguments(tool, sample)).length === 0,
        })
        const more = { ...sample, 'no such argument': 1 }
        expect([other.validate(more).valid, (await validateArguments(tool, more)).length > 0]).toEqual([false, true])
      }
    })

  it('counts what each becomes, for docs/apis.md', async () => {
    await expect(`${JSON.stringify(counts, null, 2)}\n`).toMatchFileSnapshot('../fixtures/openapi/counts.json')
  })
})
