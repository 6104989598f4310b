/** Text that is a JSON object, field by field, with every number as it is written: other programs read it as well. */

/** https://developer.mozilla.org/docs/Web/JavaScript/Reference/Global_Objects/JSON/rawJSON */
const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown }
type Reviver = (name: string, value: unknown, context: { readonly source?: string }) => unknown

/** A number that JavaScript would write in another way, 12345678901234567890 or 1.0 for example, stays as it is written. */
const asWritten: Reviver = (_, value, { source }) =>
  typeof value === 'number' && source !== undefined && String(value) !== source ? rawJSON(source) : value

/** The members of a JSON object; undefined for all other text. */
export const jsonFields = (text: string): Readonly<Record<string, unknown>> | undefined => {
  let value: unknown
  try {
    value = JSON.parse(text, asWritten as (name: string, value: unknown) => unknown)
  } catch {
    return undefined
  }
  // What is raw is a number, as a whole.
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value) && text.trimStart()[0] === '{'
  return isObject ? (value as Readonly<Record<string, unknown>>) : undefined
}

/** How a JSON object is indented, for `JSON.stringify`; undefined where it stands on one line. */
export const jsonIndent = (text: string): string | undefined => /^\s*\{\r?\n([ \t]+)"/.exec(text)?.[1]
