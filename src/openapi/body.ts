import { type JsonObject, isObject, objectAt, textAt } from './json.ts'
import { type BodyKind, essence, isMediaType, KINDS, kindOf } from './media.ts'
import type { DocumentOperation } from './operations.ts'
import type { References } from './references.ts'
import { convertSchema } from './schema.ts'
import type { Conversion } from './schema-context.ts'
import { FILE, typesOf } from './schema-keywords.ts'
import type { JsonSchema, PropertyEncoding, Style } from './tool.ts'

/** The body of an operation in the form in which it is sent. */
export interface DocumentBody {
  readonly required: boolean
  readonly mediaType: string
  readonly kind: BodyKind
  readonly schema: unknown
  readonly description: string | undefined
  /** By property, of form and multipart bodies. */
  readonly encoding: JsonObject
}

/** Of JSON bodies: what describes the thing itself comes before what describes a change of it. */
const rankOf = (mediaType: string): number => {
  const type = essence(mediaType)
  if (type === 'application/json') return 0
  if (type === 'application/merge-patch+json') return 1
  return type === 'application/json-patch+json' ? 3 : 2
}

const concrete = (mediaType: string, schema: unknown, references: References): string => {
  if (!mediaType.includes('*')) return mediaType
  const part = references.follow(schema)
  const isData =
    part !== undefined && (typesOf(part).some((type) => type !== 'string') || 'allOf' in part || 'anyOf' in part)
  return isData || mediaType.includes('json')
    ? 'application/json'
    : mediaType.startsWith('text/')
      ? 'text/plain'
      : 'application/octet-stream'
}

/** Undefined where an operation has none. */
export const bodyOf = ({ definition }: DocumentOperation, references: References): DocumentBody | undefined => {
  const body = references.follow(definition.requestBody)
  const forms = Object.entries(objectAt(body, 'content') ?? {}).flatMap(([name, part]) => {
    const media = references.follow(part)
    if (media === undefined || !isMediaType(name.trim())) return []
    const mediaType = concrete(name.trim(), media.schema, references)
    return [{ media, mediaType, kind: kindOf(mediaType) }]
  })
  const [best] = forms.sort(
    (a, b) => KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind) || rankOf(a.mediaType) - rankOf(b.mediaType),
  )
  if (body === undefined || best === undefined) return undefined
  return {
    required: body.required === true,
    mediaType: best.mediaType,
    kind: best.kind,
    schema: best.media.schema,
    description: textAt(body, 'description'),
    encoding: objectAt(best.media, 'encoding') ?? {},
  }
}

/** A body as arguments: one for all of it, or one for each property. */
export type BodyArguments =
  | { readonly as: 'whole'; readonly schema: JsonSchema }
  | {
      readonly as: 'properties'
      readonly properties: Readonly<Record<string, JsonSchema>>
      readonly required: readonly string[]
    }

const FILE_NOTE = 'Base64, or a data: URI such as data:text/plain;name=notes.txt;base64,SGVsbG8='

const NEEDED_NOTE = 'Needed where the call has a body.'

const withNote = (schema: JsonSchema, note: string): JsonSchema => ({
  ...schema,
  description: typeof schema.description === 'string' ? `${schema.description}\n${note}` : note,
})

export const isFile = (schema: JsonSchema): boolean =>
  schema.contentMediaType === FILE.contentMediaType && schema.contentEncoding === FILE.contentEncoding

/** A property whose bytes are sent as they are; of a list, each of its elements. */
const asFile = (schema: JsonSchema, contentType: string | undefined): JsonSchema => {
  const items = schema.items
  if (schema.type === 'array' && isObject(items)) {
    const inner = asFile(items, contentType)
    return inner === items ? schema : { ...schema, items: inner }
  }
  const isUntyped = schema.type === undefined && schema.anyOf === undefined && schema.properties === undefined
  const isBinary = contentType !== undefined && contentType.split(',').every((each) => kindOf(each) === 'binary')
  return isFile(schema) || (isUntyped && isBinary)
    ? withNote({ type: 'string', ...schema, ...FILE }, FILE_NOTE)
    : schema
}

/**
 * The arguments of a body.
 * @param keepsWhole the file of the API names the body as one argument
 * @throws TooLargeError
 */
export const bodyArguments = (body: DocumentBody, keepsWhole: boolean, conversion: Conversion): BodyArguments => {
  if (body.kind === 'binary') return { as: 'whole', schema: { type: 'string', ...FILE, description: FILE_NOTE } }
  const schema = convertSchema(body.schema, conversion)
  if (body.kind === 'text')
    return {
      as: 'whole',
      schema:
        schema.type === 'string'
          ? schema
          : { type: 'string', description: `Text of the type ${essence(body.mediaType)}.` },
    }
  const properties = isObject(schema.properties) ? (schema.properties as Readonly<Record<string, JsonSchema>>) : {}
  const required = Array.isArray(schema.required) ? (schema.required as string[]) : []
  const isForm = body.kind !== 'json'
  const isFlat =
    Object.keys(properties).length > 0 &&
    !isObject(schema.additionalProperties) &&
    !['anyOf', 'allOf', 'minProperties'].some((key) => Object.hasOwn(schema, key)) &&
    required.every((name) => Object.hasOwn(properties, name))
  if (!isFlat || keepsWhole)
    return { as: 'whole', schema: isForm && schema.type === undefined ? { type: 'object', ...schema } : schema }
  return {
    as: 'properties',
    // Without a body its required properties are not required either.
    required: body.required ? required : [],
    properties: Object.fromEntries(
      Object.entries(properties).map(([name, each]) => {
        const made = isForm ? asFile(each, textAt(objectAt(body.encoding, name), 'contentType')) : each
        return [name, !body.required && required.includes(name) ? withNote(made, NEEDED_NOTE) : made]
      }),
    ),
  }
}

/** How each property of a form or multipart body is sent. */
export const encodingsOf = (
  body: DocumentBody,
  properties: Readonly<Record<string, JsonSchema>>,
): Record<string, PropertyEncoding> => {
  if (body.kind !== 'form' && body.kind !== 'multipart') return {}
  return Object.fromEntries(
    Object.entries(properties).flatMap(([name, schema]) => {
      const encoding = objectAt(body.encoding, name)
      const [contentType, style] = [textAt(encoding, 'contentType'), textAt(encoding, 'style')]
      const items = isObject(schema.items) ? schema.items : schema
      const all: PropertyEncoding = {
        ...(contentType === undefined ? {} : { contentType }),
        ...(style === undefined ? {} : { style: style as Style }),
        ...(typeof encoding?.explode === 'boolean' ? { explode: encoding.explode } : {}),
        ...(encoding?.allowReserved === true ? { allowReserved: true } : {}),
        ...(isFile(items) ? { isBinary: true } : {}),
      }
      return Object.keys(all).length === 0 ? [] : [[name, all]]
    }),
  )
}
