import type { Secret } from '#foundation/crypto'

/** What the target said to a login: never a guess. */
export type Login = 'works' | 'refused'

interface AnyRotator {
  readonly kind: string
  /** Where it works, as text: so many calls there at the same time as the policy says. */
  readonly target: string
  /** Whether the old one works until `retire`. Where it does not, no process gets a value from `apply` until the new one is current. */
  readonly supportsDualSecrets: boolean
  /** Logs in. @throws when that cannot be known: the target cannot be reached, or does not answer */
  login(value: Secret): Promise<Login>
  /** Makes the target refuse the old one, and still accept the current one. */
  retire(old: Secret, current: Secret): Promise<void>
}

/** Deputy chooses the next value, and sends it to the target. */
export interface ChoosingRotator extends AnyRotator {
  readonly generatedByTarget?: undefined
  /** The value that comes next. Does not touch the target. */
  next(current: Secret | undefined): Secret | Promise<Secret>
  /** Finds out what would keep the change from being possible, before anything is changed. @throws what is in the way */
  check?(current: Secret | undefined, next: Secret): Promise<void>
  /** Makes the target accept the new one. */
  apply(current: Secret | undefined, next: Secret): Promise<void>
}

/** The target chooses the value that comes next, and keeps it where it can be read again. */
export interface AskingRotator extends AnyRotator {
  readonly generatedByTarget: true
  /** As for the other kind. */
  check?(current: Secret | undefined): Promise<void>
  /** The one that is right now, as the target says. */
  known(): Promise<Secret>
  /**
   * Has the target choose, unless what is right there is none of the known ones: then it has chosen before.
   * @param known the current one, and the one that was right at the plan
   * @returns what it chose: the same one each time for the same known ones
   */
  apply(known: readonly Secret[]): Promise<Secret>
}

/**
 * Changes a secret at its target. Each method may be called again after a kill, with the same values, and then ends with
 * the same state. Every implementation runs `test/conformance/rotator.ts`.
 */
export type Rotator = ChoosingRotator | AskingRotator
