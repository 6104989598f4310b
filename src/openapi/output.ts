import { type JsonObject, objectAt } from './json.ts'
import { isJson } from './media.ts'
import type { DocumentOperation } from './operations.ts'
import { projectSchema } from './projection.ts'
import type { References } from './references.ts'
import { convertSchema } from './schema.ts'
import { fitting, type Losses } from './schema-context.ts'
import type { AnswerForm, JsonSchema } from './tool.ts'

/** What a tool answers. */
export interface ToolOutput {
  readonly answers: readonly AnswerForm[]
  readonly wrapsAnswer: boolean
  readonly outputSchema: JsonSchema | undefined
}

/** More forms of one answer say nothing that a client could use. */
const MAX_FORMS = 3

const isSuccess = (status: string): boolean => /^2(\d\d|XX)$/.test(status)

const schemaOf = (content: JsonObject, references: References, losses: Losses): JsonSchema | undefined => {
  const json = Object.entries(content).find(([mediaType]) => isJson(mediaType))
  if (json === undefined) return undefined
  const media = references.follow(json[1])
  return (
    fitting({ references, direction: 'out', losses }, (conversion) => convertSchema(media?.schema, conversion)) ?? {}
  )
}

const isObjectSchema = (schema: JsonSchema): boolean => {
  if (schema.type === 'object') return true
  if (Array.isArray(schema.type)) return schema.type.every((type) => type === 'object' || type === 'null')
  return (
    schema.type === undefined && Array.isArray(schema.anyOf) && (schema.anyOf as JsonSchema[]).every(isObjectSchema)
  )
}

/** Keywords at the root that an empty object may not fit. */
const CLOSING: readonly string[] = ['allOf', 'not', 'const', 'enum']

/**
 * A schema of an object that an empty one fits too: where an answer differs altogether, structured content is empty.
 */
const opened = (schema: JsonSchema): JsonSchema => {
  if (!CLOSING.some((key) => key in schema) && !Array.isArray(schema.anyOf)) return schema
  const rest = Object.fromEntries(Object.entries(schema).filter(([key]) => !CLOSING.includes(key)))
  const { anyOf, ...others } = rest
  const forms = Array.isArray(anyOf) ? (anyOf as JsonSchema[]).map(opened) : []
  return forms.some(({ type }) => type === undefined || type === 'object' || (type as string[]).includes('object'))
    ? { ...others, anyOf: forms }
    : others
}

/** The schemas of an answer in the one form that MCP has for structured content: an object. */
const outputOf = (schemas: readonly JsonSchema[]): { schema: JsonSchema; wraps: boolean } => {
  const different =
    schemas.length < 2 ? schemas : [...new Map(schemas.map((each) => [JSON.stringify(each), each])).values()]
  const some = different.length > MAX_FORMS ? [{}] : different
  const [only] = some
  if (some.every(isObjectSchema)) {
    const open = some.map(opened)
    const [first] = open
    if (open.length > 1) return { wraps: false, schema: { type: 'object', anyOf: open } }
    return { wraps: false, schema: first!.type === 'object' ? first! : { ...first, type: 'object' } }
  }
  return { wraps: true, schema: { type: 'object', properties: { result: some.length === 1 ? only : { anyOf: some } } } }
}

/**
 * The answers of an operation.
 * @param select pointers of the parts that a caller gets
 */
export const outputsOf = (
  { definition }: DocumentOperation,
  references: References,
  losses: Losses,
  select: readonly string[] | undefined,
): ToolOutput => {
  const responses = Object.entries(objectAt(definition, 'responses') ?? {}).flatMap(([status, part]) => {
    const response = references.follow(part)
    return response === undefined || !/^([1-5](\d\d|XX)|default)$/i.test(status)
      ? []
      : [
          {
            status: /^default$/i.test(status) ? 'default' : status.toUpperCase(),
            content: objectAt(response, 'content') ?? {},
          },
        ]
  })
  const hasSuccess = responses.some(({ status }) => isSuccess(status))
  const answers = responses.map(({ status, content }): AnswerForm => {
    const isWanted = isSuccess(status) || (status === 'default' && !hasSuccess)
    const schema = isWanted ? schemaOf(content, references, losses) : undefined
    return { status, mediaTypes: Object.keys(content), ...(schema === undefined ? {} : { schema }) }
  })
  const schemas = answers.flatMap(({ schema }) => (schema === undefined ? [] : [schema]))
  if (schemas.length === 0) return { answers, wrapsAnswer: false, outputSchema: undefined }
  const { schema, wraps } = outputOf(schemas)
  if (select === undefined) return { answers, wrapsAnswer: wraps, outputSchema: schema }
  const projected = projectSchema(wraps ? (objectAt(objectAt(schema, 'properties'), 'result') ?? {}) : schema, select)
  return {
    answers,
    wrapsAnswer: wraps,
    outputSchema: wraps ? { type: 'object', properties: { result: projected } } : { ...projected, type: 'object' },
  }
}
