/** The arguments of a tool: the parameters of the operation and its body, as the file of the API wants them. */
import { didYouMean } from '#foundation/text'
import { type BodyArguments, bodyArguments, type DocumentBody, encodingsOf } from './body.ts'
import { nameArguments } from './names.ts'
import type { OperationEntry, ParameterOptions } from './options.ts'
import type { DocumentParameter } from './parameters.ts'
import { OperationError } from './refusal.ts'
import { convertSchema } from './schema.ts'
import { type Conversion, inside, spend } from './schema-context.ts'
import type { JsonSchema, Parameter, RequestBody, Value } from './tool.ts'
import { cleanText, MAX_NOTE } from './words.ts'

/** The arguments, and how a request is made of them. */
export interface ToolInput {
  readonly schema: JsonSchema
  readonly parameters: readonly Parameter[]
  readonly body: RequestBody | undefined
}

/** Something that can be an argument. */
interface Source {
  readonly in: DocumentParameter['in'] | 'body'
  readonly name: string
  readonly schema: JsonSchema
  readonly required: boolean
  readonly description: string | undefined
  readonly fixed?: string
}

const WHOLE = 'body'

/** Names under which the file of the API may speak of a parameter. */
const keysOf = ({ in: place, name }: Pick<Source, 'in' | 'name'>, isWhole: boolean): string[] =>
  isWhole ? [WHOLE] : [name, `${place}:${name}`]

const sourcesOf = (
  parameters: readonly DocumentParameter[],
  body: DocumentBody | undefined,
  form: BodyArguments | undefined,
  conversion: Conversion,
): Source[] => [
  ...parameters.map((each): Source => ({
    ...each,
    schema: each.fixed === undefined ? convertSchema(each.schema ?? { type: 'string' }, inside(conversion)) : {},
  })),
  ...(body === undefined || form === undefined
    ? []
    : form.as === 'whole'
      ? [
          {
            in: WHOLE,
            name: WHOLE,
            schema: form.schema,
            required: body.required,
            description: body.description,
          } as const,
        ]
      : Object.entries(form.properties).map(([name, schema]): Source => ({
          in: WHOLE,
          name,
          schema,
          required: form.required.includes(name),
          description: undefined,
        }))),
]

/** What the file says of each source. @throws OperationError for a name that it does not have, or that several have */
const optionsOf = (
  entry: OperationEntry,
  sources: readonly Source[],
  isWhole: boolean,
): Map<Source, ParameterOptions> => {
  const found = new Map<Source, ParameterOptions>()
  const keys = sources.map((each) => keysOf(each, isWhole && each.in === WHOLE))
  for (const [key, options] of Object.entries(entry.parameters)) {
    const named = sources.filter((_, at) => keys[at]!.includes(key))
    if (named.length === 0)
      throw new OperationError(
        `It has no parameter ${key}.`,
        didYouMean(key, keys.flat()) ||
          `Its parameters: ${keys
            .map(([name]) => name)
            .join(', ')
            .slice(0, 300)}.`,
      )
    if (named.length > 1)
      throw new OperationError(
        `Several of its parameters have the name ${key}.`,
        `Write ${named.map((each) => `${each.in}:${each.name}`).join(' or ')}.`,
      )
    found.set(named[0]!, options)
  }
  return found
}

const valueOf = (source: Source, argument: string, options: ParameterOptions | undefined): Value | undefined => {
  if (source.fixed !== undefined) return { from: 'file', value: source.fixed }
  if (options?.value !== undefined) return { from: 'file', value: options.value }
  if (options?.hidden === true) {
    if (options.default !== undefined) return { from: 'file', value: options.default }
    if (!source.required) return undefined
    throw new OperationError(`The parameter ${source.name} is required, so it cannot be hidden.`, 'Give it a `value`.')
  }
  return { from: 'argument', argument, ...(options?.default === undefined ? {} : { default: options.default }) }
}

/** The schema of one argument, with what the file says of it. */
const argumentSchema = (source: Source, options: ParameterOptions | undefined, { maxNote }: Conversion): JsonSchema => {
  const own = typeof source.schema.description === 'string' ? source.schema.description : undefined
  const texts =
    options?.description === undefined
      ? [...new Set([source.description === undefined ? '' : cleanText(source.description, maxNote || 60), own ?? ''])]
      : [cleanText(options.description, MAX_NOTE)]
  const description = texts.filter((each) => each !== '').join('\n')
  const { description: _, ...schema } = source.schema
  return {
    ...schema,
    ...(description === '' ? {} : { description }),
    ...(options?.default === undefined ? {} : { default: options.default }),
  }
}

/** @throws OperationError @throws TooLargeError */
export const inputOf = (
  document: { readonly parameters: readonly DocumentParameter[]; readonly body: DocumentBody | undefined },
  entry: OperationEntry,
  conversion: Conversion,
): ToolInput => {
  const { body } = document
  const keepsWhole = Object.hasOwn(entry.parameters, WHOLE)
  const form = body === undefined ? undefined : bodyArguments(body, keepsWhole, conversion)
  const isWhole = form?.as === 'whole'
  const sources = sourcesOf(document.parameters, body, form, conversion)
  const options = optionsOf(entry, sources, isWhole)
  const names = nameArguments(sources.map((each) => ({ ...each, renamed: options.get(each)?.name })))
  const values = sources.map((each, at) => valueOf(each, names[at]!, options.get(each)))
  const shown = sources.flatMap((source, at) => {
    const value = values[at]
    if (value?.from !== 'argument') return []
    return [{ source, name: names[at]!, isRequired: source.required && value.default === undefined }]
  })
  const twin = shown.find(({ name }, at) => shown.findIndex((each) => each.name === name) !== at)
  if (twin !== undefined)
    throw new OperationError(`Two of its arguments are called ${twin.name}.`, 'Give each a name of its own.')
  const required = shown.filter((each) => each.isRequired).map(({ name }) => name)
  const schema: JsonSchema = {
    type: 'object',
    properties: Object.fromEntries(
      shown.map(({ source, name }) => {
        const made = argumentSchema(source, options.get(source), conversion)
        spend(conversion, name.length + String(made.description ?? '').length)
        return [name, made]
      }),
    ),
    ...(required.length === 0 ? {} : { required }),
    additionalProperties: false,
  }
  return { schema, ...planOf(document, sources, values, { form, options }) }
}

const planOf = (
  { parameters, body }: { readonly parameters: readonly DocumentParameter[]; readonly body: DocumentBody | undefined },
  sources: readonly Source[],
  values: readonly (Value | undefined)[],
  { form, options }: { readonly form: BodyArguments | undefined; readonly options: Map<Source, ParameterOptions> },
): Pick<ToolInput, 'parameters' | 'body'> => {
  const planned = parameters.flatMap((each, at): Parameter[] => {
    const value = values[at]
    const { schema: _, description: _description, fixed: _fixed, ...rest } = each
    const slashes = each.in === 'path' && options.get(sources[at]!)?.slashes === true
    return value === undefined ? [] : [{ ...rest, value, ...(slashes ? { slashes } : {}) }]
  })
  if (body === undefined || form === undefined) return { parameters: planned, body: undefined }
  const of = { required: body.required, mediaType: body.mediaType, kind: body.kind }
  const rest = sources
    .slice(parameters.length)
    .map((each, at) => ({ name: each.name, value: values[parameters.length + at] }))
  const properties = rest.flatMap(({ name, value }) => (value === undefined ? [] : [{ name, value }]))
  if (form.as === 'properties')
    return {
      parameters: planned,
      body: { ...of, value: { from: 'properties', properties }, encoding: encodingsOf(body, form.properties) },
    }
  const [whole] = properties
  const inner = (form.schema.properties ?? {}) as Readonly<Record<string, JsonSchema>>
  return {
    parameters: planned,
    body:
      whole === undefined
        ? undefined
        : { ...of, value: { from: 'whole', value: whole.value }, encoding: encodingsOf(body, inner) },
  }
}
