import type { JsonSchema } from '#openapi'

const REDACTED = '[redacted]'

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** A schema, and the choices of which any may be meant. */
const formsOf = (schema: unknown): Readonly<Record<string, unknown>>[] =>
  isObject(schema)
    ? [
        schema,
        ...[schema['anyOf'], schema['allOf']].flatMap((each) => (Array.isArray(each) ? each.flatMap(formsOf) : [])),
      ]
    : []

/** Whether a schema describes a secret (https://spec.openapis.org/registry/format/password.html). */
const isSecret = (schema: Readonly<Record<string, unknown>>): boolean =>
  schema['format'] === 'password' || schema['writeOnly'] === true

const memberOf = (schema: Readonly<Record<string, unknown>>, name: string): unknown => {
  const { properties, additionalProperties } = schema
  return isObject(properties) && Object.hasOwn(properties, name) ? properties[name] : additionalProperties
}

const recorded = (forms: readonly Readonly<Record<string, unknown>>[], value: unknown): unknown => {
  if (forms.some(isSecret)) return REDACTED
  if (Array.isArray(value)) {
    const items = forms.flatMap(({ items: each }) => formsOf(each))
    return value.map((each) => recorded(items, each))
  }
  if (!isObject(value)) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, each]) => [
      name,
      recorded(
        forms.flatMap((form) => formsOf(memberOf(form, name))),
        each,
      ),
    ]),
  )
}

/**
 * Arguments as a record may keep them: values that the schema, or a choice in it, calls a password, or that are only
 * ever written, are left out.
 */
export const recordable = (schema: JsonSchema | undefined, value: unknown): unknown => recorded(formsOf(schema), value)
