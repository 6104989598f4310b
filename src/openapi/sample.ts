/** Values for simulated answers: the document's examples, else values that fit the schemas. */
import { ownValue } from '#foundation/text'
import type { ApiDocument } from './document.ts'
import { isObject, objectAt } from './json.ts'
import { isJson } from './media.ts'
import { operationsOf } from './operations.ts'
import { createReferences } from './references.ts'
import type { JsonSchema } from './tool.ts'

/** Deeper parts of a value that no example gives are left empty. */
const MAX_DEPTH = 12

const TEXTS: Readonly<Record<string, string>> = {
  'date-time': '2026-01-05T10:00:00Z',
  date: '2026-01-05',
  time: '10:00:00Z',
  duration: 'PT1H',
  email: 'user@example.com',
  hostname: 'host.example.com',
  ipv4: '192.0.2.1',
  ipv6: '2001:db8::1',
  uri: 'https://example.com/',
  uuid: '00000000-0000-4000-8000-000000000000',
}

const textFor = ({ format, minLength, contentEncoding }: JsonSchema): string => {
  if (contentEncoding === 'base64') return 'YQ=='
  const known = typeof format === 'string' ? ownValue(TEXTS, format) : undefined
  if (known !== undefined) return known
  return 'text'.padEnd(typeof minLength === 'number' ? Math.min(minLength, 10_000) : 0, 'x')
}

const numberFor = ({ type, minimum, exclusiveMinimum, maximum, multipleOf }: JsonSchema): number => {
  const step = typeof multipleOf === 'number' ? multipleOf : 1
  if (typeof minimum === 'number') return type === 'integer' ? Math.ceil(minimum) : minimum
  if (typeof exclusiveMinimum === 'number') return exclusiveMinimum + step
  return typeof maximum === 'number' && maximum < step ? maximum : step
}

const objectFor = (schema: JsonSchema, depth: number): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(objectAt(schema, 'properties') ?? {}).map(([name, each]) => [
      name,
      isObject(each) ? sampleOf(each, depth + 1) : null,
    ]),
  )

const listFor = (schema: JsonSchema, depth: number): unknown[] => {
  const count = typeof schema['minItems'] === 'number' ? Math.min(schema['minItems'], 100) : 1
  const items = objectAt(schema, 'items')
  return items === undefined || depth >= MAX_DEPTH
    ? []
    : Array.from({ length: count }, () => sampleOf(items, depth + 1))
}

/** A value that fits a schema as far as can be told from it: the same for the same schema. */
export const sampleOf = (schema: JsonSchema, depth = 0): unknown => {
  if ('const' in schema) return schema['const']
  const { default: preset, enum: values, examples, anyOf } = schema
  if (Array.isArray(examples) && examples.length > 0) return examples[0] as unknown
  if (preset !== undefined) return preset
  if (Array.isArray(values) && values.length > 0) return values[0] as unknown
  if (Array.isArray(anyOf) && isObject(anyOf[0])) {
    const { anyOf: _, ...rest } = schema
    const chosen = sampleOf(anyOf[0], depth + 1)
    return isObject(chosen) ? { ...objectFor(rest, depth), ...chosen } : chosen
  }
  const type = Array.isArray(schema['type']) ? schema['type'].find((each) => each !== 'null') : schema['type']
  if (type === 'string') return textFor(schema)
  if (type === 'integer' || type === 'number') return numberFor({ ...schema, type })
  if (type === 'boolean') return true
  if (type === 'array') return listFor(schema, depth)
  if (type === 'null') return null
  return depth >= MAX_DEPTH ? {} : objectFor(schema, depth)
}

/** An answer that a document gives as an example. */
export interface ExampleAnswer {
  readonly status: number
  readonly mediaType: string
  readonly value: unknown
}

/** The examples of successful answers, by the id of the operation. */
export const examplesOf = (document: ApiDocument): ReadonlyMap<string, ExampleAnswer> => {
  const references = createReferences(document)
  const found = new Map<string, ExampleAnswer>()
  for (const { id, definition } of operationsOf(document, references))
    for (const [status, part] of Object.entries(objectAt(definition, 'responses') ?? {})) {
      if (!/^2(\d\d|XX)$/i.test(status) || found.has(id)) continue
      const content = objectAt(references.follow(part), 'content') ?? {}
      for (const [mediaType, media] of Object.entries(content)) {
        const described = references.follow(media)
        const first = Object.values(objectAt(described, 'examples') ?? {})[0]
        const example =
          described?.['example'] ?? references.follow(first)?.['value'] ?? references.follow(first)?.['dataValue']
        if (example === undefined || !(isJson(mediaType) || typeof example === 'string')) continue
        found.set(id, { status: /^\d{3}$/.test(status) ? Number(status) : 200, mediaType, value: example })
        break
      }
    }
  return found
}
