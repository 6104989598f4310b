/**
 * Schemas of a document as plain JSON Schema 2020-12 that stands by itself. What a client could not read is left out,
 * and a schema is never made narrower: what the API takes is not refused before it is asked.
 */
import { isObject, type JsonObject, listAt, objectAt, textAt } from './json.ts'
import { addLosses, asBranch, type Conversion, inside, type Losses, spend, TooLargeError } from './schema-context.ts'
import { mergeAll } from './schema-merge.ts'
import { keywordsOf, toldTypes, typesOf } from './schema-keywords.ts'
import type { JsonSchema } from './tool.ts'
import { cleanText } from './words.ts'

/** Characters that a schema costs besides its texts. */
const COST = 24

/** Keywords that say something about a schema and constrain nothing. */
const ANNOTATIONS: ReadonlySet<string> = new Set([
  'description',
  'title',
  'default',
  'deprecated',
  'readOnly',
  'writeOnly',
  'example',
  'examples',
  'summary',
  'externalDocs',
  'xml',
])

const describe = (text: string | undefined, { maxNote }: Conversion): { description?: string } => {
  const description = text === undefined ? '' : cleanText(text, maxNote)
  return description === '' || maxNote === 0 ? {} : { description }
}

/** What stands in the place of a schema that is not written out: its type, and why. */
const cutOf = (schema: JsonObject, why: string, conversion: Conversion): JsonSchema => {
  const types = typesOf(schema)
  const words = [textAt(schema, 'description') ?? textAt(schema, 'title'), why]
  return {
    ...(types.length === 0 ? {} : { type: types.length === 1 ? types[0] : types }),
    ...(types.includes('array') ? { items: {} } : {}),
    ...describe(words.filter((each) => each !== undefined).join(' '), { ...conversion, maxNote: 120 }),
  }
}

const shortName = (name: string): string => cleanText(name.split('/').at(-1)!.replaceAll('~1', '/'), 60)

/**
 * A conversion that is not made again for the next tool. A part with a cycle in it depends on what is around it, so it
 * is not remembered; one without cannot contain what is around it.
 * @throws TooLargeError
 */
const remember = (name: string, conversion: Conversion, convert: () => JsonSchema): JsonSchema => {
  const { references, direction, depth, maxDepth, maxNote, budget, losses, isBranch } = conversion
  const key = `${direction} ${isBranch ? 'branch' : 'whole'} ${maxDepth - depth} ${maxNote} ${name}`
  const known = references.remembered.get(key)
  if (known?.schema !== undefined) {
    spend(conversion, known.cost)
    addLosses(losses, known.losses as unknown as Losses)
    return known.schema
  }
  if (known !== undefined && budget.left <= known.cost) throw new TooLargeError()
  const [left, before] = [budget.left, { ...losses }]
  try {
    const schema = convert()
    if (losses.cycles === before.cycles)
      references.remembered.set(key, {
        schema,
        cost: left - budget.left,
        losses: {
          cycles: 0,
          cuts: losses.cuts - before.cuts,
          patterns: losses.patterns - before.patterns,
          dangling: losses.dangling - before.dangling,
        },
      })
    return schema
  } catch (error) {
    if (error instanceof TooLargeError && losses.cycles === before.cycles)
      references.remembered.set(key, { schema: undefined, cost: left, losses: {} })
    throw error
  }
}

/** What a reference leads to, with what stands beside it. */
const convertReference = (reference: string, schema: JsonObject, conversion: Conversion): JsonSchema => {
  const { references, losses, around, depth, maxDepth } = conversion
  const { $ref: _, $dynamicRef: _dynamic, ...beside } = schema
  const target = references.find(reference)
  if (target === undefined) {
    losses.dangling += 1
    return convertSchema(beside, conversion)
  }
  if (around.includes(target.name)) {
    losses.cycles += 1
    return cutOf({ ...target.value, ...beside }, `As ${shortName(target.name)} above.`, conversion)
  }
  if (depth > maxDepth) {
    losses.cuts += 1
    return cutOf({ ...target.value, ...beside }, `${shortName(target.name)}, not written out.`, conversion)
  }
  const within = { ...conversion, around: [...around, target.name] }
  const keys = Object.keys(beside)
  if (keys.length === 0) return remember(target.name, within, () => convertSchema(target.value, within))
  if (keys.every((key) => ANNOTATIONS.has(key) || key === 'nullable' || key.startsWith('x-')))
    return convertSchema({ ...target.value, ...beside }, within)
  const merged = mergeAll([convertSchema(target.value, asBranch(within)), convertSchema(beside, asBranch(conversion))])
  return conversion.isBranch ? merged : withKnownRequired(merged)
}

/** Whether a property goes this way at all. */
const goes = (schema: unknown, { references, direction }: Conversion): boolean => {
  const part = references.follow(schema)
  return part?.[direction === 'in' ? 'readOnly' : 'writeOnly'] !== true
}

const isSimple = (schema: JsonObject): boolean =>
  ![
    '$ref',
    '$dynamicRef',
    'properties',
    'items',
    'prefixItems',
    'allOf',
    'anyOf',
    'oneOf',
    'additionalProperties',
  ].some((key) => Object.hasOwn(schema, key))

/** Keywords of a schema that is one value. */
const VALUE_KEYS: ReadonlySet<string> = new Set(['const', 'type', 'description'])

/** A choice of values, each with a description, as the list of values that it is. */
const valuesOf = (choices: readonly JsonSchema[], conversion: Conversion): JsonSchema => {
  const notes = choices.flatMap(({ const: value, description }) =>
    typeof description === 'string' ? [`${String(value)}: ${description}`] : [],
  )
  return {
    ...describe(notes.length === 0 ? undefined : notes.join('\n'), conversion),
    enum: [...new Set(choices.map((each) => each.const))],
  }
}

/** The branches of a choice. `oneOf` becomes `anyOf`: branches that lost a part may overlap. */
const choiceOf = (schema: JsonObject, keyword: 'anyOf' | 'oneOf', conversion: Conversion): JsonSchema | undefined => {
  const branches = listAt(schema, keyword)
  if (branches.length === 0) return undefined
  const discriminator = objectAt(schema, 'discriminator')
  const before = conversion.budget.left
  const choice = { ...conversion, isBranch: false }
  const converted = branches.map((branch) => discriminated(branch, discriminator, convertSchema(branch, choice)))
  if (converted.some((each) => Object.keys(each).length === 0)) return {}
  if (converted.every((each) => 'const' in each && Object.keys(each).every((key) => VALUE_KEYS.has(key)))) {
    const made = valuesOf(converted, conversion)
    // It costs as much as it is long, and not as much as the choice that it was.
    conversion.budget.left = before
    spend(conversion, JSON.stringify(made).length)
    return made
  }
  const different = [...new Map(converted.map((each) => [JSON.stringify(each), each])).values()]
  if (different.length === 1) return different[0]!
  const others = different.filter((each) => each.type !== 'null' || Object.keys(each).length > 1)
  const [only] = others
  const canBeNull = different.length === 2 && others.length === 1 && only!.type !== undefined && !('const' in only!)
  return canBeNull ? withNull(only!) : { anyOf: different }
}

/**
 * A branch with the value of the discriminator that selects it, where the document says one and the branch does not.
 */
const discriminated = (branch: unknown, discriminator: JsonObject | undefined, converted: JsonSchema): JsonSchema => {
  const name = textAt(discriminator, 'propertyName')
  const mapping = objectAt(discriminator, 'mapping')
  const reference = isObject(branch) ? textAt(branch, '$ref') : undefined
  if (name === undefined || mapping === undefined || reference === undefined) return converted
  const values = Object.entries(mapping).filter(
    ([, target]) => target === reference || `#/components/schemas/${String(target)}` === reference,
  )
  const properties = objectAt(converted, 'properties')
  const property = objectAt(properties, name)
  if (values.length !== 1 || property?.type !== 'string' || 'enum' in property || 'const' in property) return converted
  return { ...converted, properties: { ...properties, [name]: { ...property, const: values[0]![0] } } }
}

/** The members of an object that go this way. */
const membersOf = (schema: JsonObject, conversion: Conversion): Readonly<Record<string, JsonSchema>> | undefined => {
  const properties = objectAt(schema, 'properties')
  if (properties === undefined) return undefined
  const members = Object.entries(properties).filter(
    ([name, each]) => name === cleanText(name, 200) && name !== '' && name !== '__proto__' && goes(each, conversion),
  )
  return Object.fromEntries(
    members.map(([name, each]) => {
      spend(conversion, name.length)
      return [name, convertSchema(each, inside(conversion))]
    }),
  )
}

/**
 * Names that an object requires: not those whose own member does not go this way, and unknown ones only where another
 * branch of `allOf` can have them.
 */
const requiredOf = (
  schema: JsonObject,
  members: Readonly<Record<string, JsonSchema>> | undefined,
  { isBranch }: Conversion,
): string[] => {
  const own = objectAt(schema, 'properties') ?? {}
  return listAt(schema, 'required').filter(
    (name): name is string =>
      typeof name === 'string' &&
      (members === undefined || Object.hasOwn(members, name) || (isBranch && !Object.hasOwn(own, name))),
  )
}

/** A schema whose branches are together: it requires members that one of them has. */
const withKnownRequired = (schema: JsonSchema): JsonSchema => {
  const parts = [schema, ...(Array.isArray(schema.allOf) ? (schema.allOf as JsonSchema[]) : [])]
  const properties = parts.flatMap((part) => (isObject(part.properties) ? [part.properties] : []))
  if (properties.length === 0) return schema
  const settle = (part: JsonSchema): JsonSchema => {
    if (!Array.isArray(part.required)) return part
    const { required, ...rest } = part
    const known = (required as string[]).filter((name) => properties.some((each) => Object.hasOwn(each, name)))
    return known.length === 0 ? rest : { ...rest, required: known }
  }
  const settled = settle(schema)
  return Array.isArray(schema.allOf) ? { ...settled, allOf: (schema.allOf as JsonSchema[]).map(settle) } : settled
}

/** The inner schemas of arrays and objects. */
const partsOf = (schema: JsonObject, conversion: Conversion): JsonSchema => {
  const types = typesOf(schema)
  const isFor = (type: string): boolean => types.length === 0 || types.includes(type)
  const members = isFor('object') ? membersOf(schema, conversion) : undefined
  const required = requiredOf(schema, members, conversion)
  const rest = schema.additionalProperties
  const isOpen = Object.hasOwn(schema, 'patternProperties') || rest === undefined || rest === true
  const [prefix, items] = [listAt(schema, 'prefixItems'), schema.items]
  const isList = types.includes('array') || items !== undefined || prefix.length > 0
  return {
    ...(members === undefined ? {} : { properties: members }),
    ...(conversion.direction === 'in' && isFor('object') && required.length > 0 ? { required } : {}),
    ...(!isFor('object') || isOpen || (rest === false && conversion.direction === 'out')
      ? {}
      : { additionalProperties: rest === false ? false : convertSchema(rest, inside(conversion)) }),
    ...(prefix.length > 0 ? { prefixItems: prefix.map((each) => convertSchema(each, inside(conversion))) } : {}),
    ...(isList && isFor('array') ? { items: convertSchema(items ?? true, inside(conversion)) } : {}),
  }
}

/** @throws TooLargeError */
export const convertSchema = (schema: unknown, conversion: Conversion): JsonSchema => {
  spend(conversion, COST)
  if (schema === false) return conversion.direction === 'in' ? { not: {} } : {}
  if (!isObject(schema)) return {}
  const reference = textAt(schema, '$ref') ?? textAt(schema, '$dynamicRef')
  if (reference !== undefined) return convertReference(reference, schema, conversion)
  if (conversion.depth > conversion.maxDepth && !isSimple(schema)) {
    conversion.losses.cuts += 1
    return cutOf(schema, 'Not written out.', conversion)
  }
  const types = toldTypes(schema, conversion)
  const branches = listAt(schema, 'allOf')
  const own: JsonSchema = {
    ...(types.length === 0 ? {} : { type: types.length === 1 ? types[0] : types }),
    ...describe(noteOf(schema), conversion),
    ...keywordsOf(schema, types, conversion),
    ...partsOf(schema, branches.length > 0 ? asBranch(conversion) : conversion),
  }
  spend(conversion, typeof own.description === 'string' ? own.description.length : 0)
  const combined = [
    ...branches.map((each) => convertSchema(each, asBranch(conversion))),
    choiceOf(schema, 'anyOf', conversion),
    choiceOf(schema, 'oneOf', conversion),
  ].filter((each) => each !== undefined)
  if (combined.length === 0) return own
  const all = mergeAll([own, ...combined])
  const merged = conversion.isBranch ? all : withKnownRequired(all)
  return schema.nullable === true && types.length === 0 ? withNull(merged) : merged
}

/** A schema that also takes null (`nullable` of OpenAPI 3.0, where it stands beside a choice). */
const withNull = (schema: JsonSchema): JsonSchema => {
  if (Array.isArray(schema.enum) && !schema.enum.includes(null))
    return withNull({ ...schema, enum: [...(schema.enum as unknown[]), null] })
  if (typeof schema.type === 'string') return { ...schema, type: [schema.type, 'null'] }
  if (Array.isArray(schema.type))
    return schema.type.includes('null') ? schema : { ...schema, type: [...(schema.type as string[]), 'null'] }
  return Array.isArray(schema.anyOf) && Object.keys(schema).every((key) => key === 'anyOf' || key === 'description')
    ? { ...schema, anyOf: [...(schema.anyOf as JsonSchema[]), { type: 'null' }] }
    : { anyOf: [schema, { type: 'null' }] }
}

/** The description of a schema, with what its discriminator says. */
const noteOf = (schema: JsonObject): string | undefined => {
  const text = textAt(schema, 'description')
  const discriminator = objectAt(schema, 'discriminator')
  const name = textAt(discriminator, 'propertyName')
  if (name === undefined) return text
  const values = Object.keys(objectAt(discriminator, 'mapping') ?? {}).slice(0, 20)
  const hint = `\`${name}\` says which form it is${values.length === 0 ? '' : `: ${values.join(', ')}`}.`
  return text === undefined ? hint : `${text}\n${hint}`
}
