import { inspect } from 'node:util'

/**
 * A value that must not be printed. Every way in which JavaScript turns an object into text yields `[secret]`;
 * `reveal()` is the only way to the value, so that a grep for it lists every place where secrets come into the open.
 */
export class Secret {
  readonly #value: string
  constructor(value: string) {
    this.#value = value
  }
  reveal(): string {
    return this.#value
  }
  toString(): string {
    return '[secret]'
  }
  toJSON(): string {
    return '[secret]'
  }
  [inspect.custom](): string {
    return '[secret]'
  }
  get [Symbol.toStringTag](): string {
    return 'Secret'
  }
}
