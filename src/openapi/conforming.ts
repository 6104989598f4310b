/**
 * Structured content that a client takes: clients fail a call whose structured content is not as the output schema
 * says.
 */
import type { ErrorObject } from 'ajv'
import { isObject, pointerOf, stepsOf } from './json.ts'
import type { JsonSchema } from './tool.ts'
import { type Finds, validatorOf } from './validate.ts'

/** Times that a value is looked through: what is left out can bring to light what a choice takes no more. */
const MAX_PASSES = 10
/** After these whole members are left out. */
const EXACT_PASSES = 5

/**
 * Takes the member at some steps out; a list loses no element, because one with a hole would say something else, and
 * goes itself.
 */
const takeOut = (root: Record<string, unknown>, steps: readonly string[]): void => {
  let at: unknown = root
  let holder: { readonly object: Record<string, unknown>; readonly name: string } | undefined
  for (const step of steps) {
    if (isObject(at)) {
      if (!Object.hasOwn(at, step)) return
      holder = { object: at as Record<string, unknown>, name: step }
      at = at[step]
    } else if (Array.isArray(at)) at = at[Number(step)]
    else return
  }
  if (holder !== undefined) delete holder.object[holder.name]
}

/** With more differences than this only whole members are left out. */
const MAX_PLACES = 2000

/** Where a value differs. A choice that nothing fits differs where its forms do, as far as they say where. */
const placesOf = (errors: readonly ErrorObject[]): string[] => {
  const places = new Set(errors.filter(({ keyword }) => keyword !== 'anyOf').map(({ instancePath }) => instancePath))
  const choices = errors.filter(
    ({ keyword, instancePath }) =>
      keyword === 'anyOf' && ![...places].some((place) => place.startsWith(`${instancePath}/`)),
  )
  return [...places, ...choices.map(({ instancePath }) => instancePath)]
}

/**
 * A value as its schema says: parts that differ are left out. The text of the answer has them all.
 * @param schema an output schema: no member is required, so that an empty object is always as it says
 */
export const conforming = async (
  schema: JsonSchema,
  value: Readonly<Record<string, unknown>>,
  finds: Finds,
): Promise<Readonly<Record<string, unknown>>> => {
  const validate = await validatorOf(schema, { finds })
  let kept: Record<string, unknown> | undefined
  for (let pass = 0; !validate(kept ?? value); pass += 1) {
    const errors = validate.errors ?? []
    validate.errors = null
    const isExact = finds === 'all' && pass < EXACT_PASSES && errors.length <= MAX_PLACES
    const places = isExact
      ? placesOf(errors)
      : [...new Set(errors.map(({ instancePath }) => pointerOf(stepsOf(instancePath).slice(0, 1))))]
    if (pass === MAX_PASSES || places.includes('')) return {}
    kept ??= structuredClone(value)
    for (const place of places) takeOut(kept, stepsOf(place))
  }
  return kept ?? value
}
