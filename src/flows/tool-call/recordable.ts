import type { JsonSchema } from '#openapi'

const REDACTED = '[redacted]'

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Whether a schema describes a secret (https://spec.openapis.org/registry/format/password.html). */
const isSecret = (schema: unknown): boolean =>
  isObject(schema) && (schema['format'] === 'password' || schema['writeOnly'] === true)

/** Arguments as a record may keep them: values that the schema calls a password, or that are only ever written, are left out. */
export const recordable = (schema: JsonSchema | undefined, value: unknown): unknown => {
  if (isSecret(schema)) return REDACTED
  if (Array.isArray(value)) {
    const items = isObject(schema?.['items']) ? schema['items'] : undefined
    return value.map((each) => recordable(items, each))
  }
  if (!isObject(value)) return value
  const properties = isObject(schema?.['properties']) ? schema['properties'] : {}
  return Object.fromEntries(
    Object.entries(value).map(([name, each]) => {
      const inner = Object.hasOwn(properties, name) ? properties[name] : undefined
      return [name, recordable(isObject(inner) ? inner : undefined, each)]
    }),
  )
}
