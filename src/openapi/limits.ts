import { pointerOf } from './json.ts'
import { DocumentError } from './problem.ts'

/** GitHub's document, the largest that is known, has 13 MB, 60 levels and half a million parts. */
export const MAX_DOCUMENT_BYTES = 33_554_432
const MAX_DEPTH = 200
const MAX_PARTS = 3_000_000
/** Aliases of one YAML document, all unfoldings counted. */
export const MAX_ALIASES = 1000

/** @throws DocumentError for a text that is not worth parsing */
export const assertSize = (bytes: number, what: string): void => {
  if (bytes > MAX_DOCUMENT_BYTES)
    throw new DocumentError(
      `${what} has ${bytes} bytes, and a document has at most ${MAX_DOCUMENT_BYTES}.`,
      'Split the document by tags, or take out the operations that are not used.',
    )
}

/** A part that is still to copy, with the way to it. */
interface Step {
  readonly from: unknown
  readonly name: string | number
  readonly parent: Step | undefined
  readonly depth: number
  readonly put: (copy: unknown) => void
}

const pathOf = (step: Step): (string | number)[] => {
  const path: (string | number)[] = []
  for (let each: Step | undefined = step; each?.parent !== undefined; each = each.parent) path.unshift(each.name)
  return path
}

/**
 * A document as plain data that stands by itself: bounded in depth and parts, each part once in each place, without the
 * key `__proto__`. It walks without recursion, because the depth is not known before.
 * @throws DocumentError
 */
export const boundedCopy = (root: unknown, what: string): unknown => {
  const holder: { copy?: unknown } = {}
  const steps: Step[] = [{ from: root, name: '', parent: undefined, depth: 0, put: (copy) => (holder.copy = copy) }]
  let parts = 0
  for (let step = steps.pop(); step !== undefined; step = steps.pop()) {
    const { from, depth, put } = step
    parts += 1
    if (parts > MAX_PARTS)
      throw new DocumentError(
        `${what} has more than ${MAX_PARTS} parts.`,
        'Write fewer aliases, or split the document.',
      )
    if (typeof from !== 'object' || from === null) {
      put(from)
      continue
    }
    if (depth >= MAX_DEPTH)
      throw new DocumentError(
        `${what} is nested deeper than ${MAX_DEPTH} levels.`,
        'Name the inner schemas in components, and refer to them.',
        pointerOf(pathOf(step).slice(0, 10)),
      )
    const copy: Record<string | number, unknown> = Array.isArray(from) ? ([] as unknown as Record<number, unknown>) : {}
    put(copy)
    for (const key of Object.keys(from)) {
      if (key === '__proto__') continue
      const name = Array.isArray(from) ? Number(key) : key
      // Keys keep their order; the value comes later.
      copy[name] = undefined
      steps.push({
        from: (from as Record<string, unknown>)[key],
        name,
        parent: step,
        depth: depth + 1,
        put: (inner) => (copy[name] = inner),
      })
    }
  }
  return holder.copy
}
