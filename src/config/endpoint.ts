import { z } from 'zod'
import { ownValue } from '#foundation/text'
import { urlSchema } from './values.ts'

/** `{name}` in an endpoint: what differs from customer to customer, such as a directory or a host. */
const PLACEHOLDER = /\{([a-z][a-z0-9_]*)\}/g
export const placeholdersIn = (endpoint: string): string[] =>
  [...endpoint.matchAll(PLACEHOLDER)].map(([, name]) => name!)
export const fillIn = (endpoint: string, values: Readonly<Record<string, string>>): string =>
  endpoint.replace(PLACEHOLDER, (whole, name: string) => ownValue(values, name) ?? whole)

export const variableNameSchema = z
  .string()
  .regex(/^[a-z][a-z0-9_]{0,30}$/, 'use a to z, 0 to 9 and "_", starting with a letter')

/** What may stand in an endpoint's host or in one segment of its path: it can neither end the host nor leave the segment. */
export const variableValueSchema = z
  .string()
  .regex(
    /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?(?::\d{1,5})?$/,
    'write a host name, or a name of letters, digits, ".", "_" and "-"',
  )
export const variablesSchema = z.record(variableNameSchema, variableValueSchema)

export const endpointSchema = z
  .string()
  .refine(
    (text) =>
      urlSchema.safeParse(fillIn(text, Object.fromEntries(placeholdersIn(text).map((name) => [name, 'x'])))).success,
    'write an http or https URL without user, password and fragment',
  )
