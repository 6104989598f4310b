/** Structured content that a client takes: clients fail a call whose structured content is not as the output schema says. */
import { isObject, stepsOf } from './json.ts'
import type { JsonSchema } from './tool.ts'
import { validatorOf } from './validate.ts'

/** Parts that are taken out one by one; after them the whole member goes. */
const MAX_ATTEMPTS = 20

/** A copy without the member at some steps, or without the list that the steps lead through last. */
const withoutPart = (value: unknown, steps: readonly string[]): unknown => {
  const [step, ...rest] = steps
  if (step === undefined) return undefined
  if (Array.isArray(value)) {
    const at = Number(step)
    const inner = rest.length === 0 ? undefined : withoutPart(value[at], rest)
    // A list with a hole would say something else.
    return inner === undefined ? undefined : value.map((each: unknown, index) => (index === at ? inner : each))
  }
  if (!isObject(value)) return undefined
  const inner = rest.length === 0 ? undefined : withoutPart(value[step], rest)
  const { [step]: _, ...others } = value
  return inner === undefined ? others : { ...value, [step]: inner }
}

/**
 * A value as its schema says: parts that differ are left out. The text of the answer has them all.
 * @param schema an output schema: no member is required, so that an empty object is always as it says
 */
export const conforming = async (
  schema: JsonSchema,
  value: Readonly<Record<string, unknown>>,
): Promise<Readonly<Record<string, unknown>>> => {
  const validate = await validatorOf(schema)
  let kept: Readonly<Record<string, unknown>> = value
  for (let attempt = 0; !validate(kept); attempt += 1) {
    // The last error is that of the outermost choice.
    const [error] = (validate.errors ?? []).toSorted((a, b) => a.instancePath.length - b.instancePath.length)
    const steps = stepsOf(error?.instancePath ?? '')
    const next = withoutPart(kept, attempt < MAX_ATTEMPTS ? steps : steps.slice(0, 1))
    validate.errors = null
    if (!isObject(next) || attempt > 2 * MAX_ATTEMPTS) return {}
    kept = next
  }
  return kept
}
