import type { Rotator } from './rotator.ts'

/** So many at a time; the others wait in their order. */
class Turns {
  #free: number
  readonly #waiting: (() => void)[] = []
  constructor(size: number) {
    this.#free = size
  }
  async take<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1
    else
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve)
      })
    try {
      return await work()
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#free += 1
      else next()
    }
  }
}

/**
 * Rotators that ask one target no more than so many things at a time, over all rotations of this process. What a rotation
 * does besides, such as writing down how far it has come, keeps no other from the target.
 */
export const createTargetLimits = () => {
  const targets = new Map<string, Turns>()
  return (rotator: Rotator, concurrency: number): Rotator => {
    // A policy that says another number meets the target with that number.
    const key = `${concurrency} ${rotator.kind} ${rotator.target}`
    const turns = targets.get(key) ?? new Turns(concurrency)
    targets.set(key, turns)
    const { check } = rotator
    const limited = {
      kind: rotator.kind,
      target: rotator.target,
      supportsDualSecrets: rotator.supportsDualSecrets,
      login: (value) => turns.take(() => rotator.login(value)),
      retire: (old, current) => turns.take(() => rotator.retire(old, current)),
    } satisfies Partial<Rotator>
    if (rotator.generatedByTarget === true) {
      return {
        ...limited,
        generatedByTarget: true,
        known: () => turns.take(() => rotator.known()),
        apply: (known) => turns.take(() => rotator.apply(known)),
        ...(check === undefined ? {} : { check: (current) => turns.take(() => rotator.check!(current)) }),
      }
    }
    return {
      ...limited,
      next: (current) => rotator.next(current),
      apply: (current, next) => turns.take(() => rotator.apply(current, next)),
      ...(check === undefined ? {} : { check: (current, next) => turns.take(() => rotator.check!(current, next)) }),
    }
  }
}
