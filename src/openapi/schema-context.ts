import type { References } from './references.ts'

/** Which way the data goes: what is read-only is not sent, and what is write-only does not come back. */
export type Direction = 'in' | 'out'

/** What was left out of schemas, for people who choose tools. */
export interface Losses {
  /** Places where a schema would contain itself. */
  cycles: number
  /** Places that were too deep for the size that clients take. */
  cuts: number
  /** Patterns that could take time without end. */
  patterns: number
  /** References that lead nowhere. */
  dangling: number
}

export const noLosses = (): Losses => ({ cycles: 0, cuts: 0, patterns: 0, dangling: 0 })

export const addLosses = (to: Losses, more: Losses): void => {
  for (const key of Object.keys(to) as (keyof Losses)[]) to[key] += more[key]
}

/** A place in a conversion. */
export interface Conversion {
  readonly references: References
  readonly direction: Direction
  readonly losses: Losses
  /** Characters that the schema may still have. */
  readonly budget: { left: number }
  /** Levels below which schemas are cut. */
  readonly maxDepth: number
  /** Characters of a description. */
  readonly maxNote: number
  /** Names of the references around this place. */
  readonly around: readonly string[]
  readonly depth: number
  /** Whether it is a branch of `allOf`, whose siblings may have the members that it requires. */
  readonly isBranch: boolean
}

/** Thrown inside a conversion that has become too large; it starts again with fewer levels. */
export class TooLargeError extends Error {
  override readonly name = 'TooLargeError'
}

/** @throws TooLargeError */
export const spend = ({ budget }: Conversion, characters: number): void => {
  budget.left -= characters
  if (budget.left < 0) throw new TooLargeError()
}

/** One level deeper. */
export const inside = (conversion: Conversion): Conversion => ({
  ...conversion,
  depth: conversion.depth + 1,
  isBranch: false,
})

/** A branch of `allOf`. */
export const asBranch = (conversion: Conversion): Conversion =>
  conversion.isBranch ? conversion : { ...conversion, isBranch: true }

/** Characters of the schemas of one tool. */
export const MAX_SCHEMA: Readonly<Record<Direction, number>> = { in: 24_000, out: 8000 }

/** What a schema that is too large loses, step by step: first words, then levels. */
const ATTEMPTS: readonly Pick<Conversion, 'maxDepth' | 'maxNote'>[] = [
  { maxDepth: 16, maxNote: 500 },
  { maxDepth: 16, maxNote: 120 },
  ...[10, 8, 7, 6, 5, 4, 3].map((maxDepth) => ({ maxDepth, maxNote: 120 })),
  { maxDepth: 2, maxNote: 60 },
  { maxDepth: 1, maxNote: 0 },
]

/**
 * Runs a conversion with as many levels as fit. Every attempt ends when the budget is spent, so that references which
 * multiply take no more time or memory than others.
 * @returns undefined where not even the first level fits
 */
export const fitting = <Result>(
  options: Pick<Conversion, 'references' | 'direction' | 'losses'>,
  convert: (conversion: Conversion) => Result,
): Result | undefined => {
  for (const attempt of ATTEMPTS) {
    const losses = noLosses()
    try {
      const result = convert({
        ...options,
        ...attempt,
        losses,
        budget: { left: MAX_SCHEMA[options.direction] },
        around: [],
        depth: 0,
        isBranch: false,
      })
      addLosses(options.losses, losses)
      return result
    } catch (error) {
      if (!(error instanceof TooLargeError)) throw error
    }
  }
  options.losses.cuts += 1
  return undefined
}
