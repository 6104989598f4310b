import { inspect } from 'node:util'

/** A credential. It prints itself as `[token]`; `reveal()` is the only way to its value. */
export class Token {
  readonly #value: string
  /** How it is sent: `Bearer`, or `N_A` for a secret that is not an access token. */
  readonly type: string
  /** The issued scopes, which may be fewer than requested. */
  readonly scopes: readonly string[]
  /** Its end (ms since the epoch). */
  readonly expiresAt: number
  /** What the provider returned with the token, as far as its file in Deputy lists it, for example `instance_url`. */
  readonly fields: Readonly<Record<string, string>>
  /** A warning of Deputy about this server, for example that it is deprecated. */
  readonly warning: string | undefined
  constructor(
    value: string,
    facts: {
      type: string
      scopes: readonly string[]
      expiresAt: number
      warning: string | undefined
      fields?: Readonly<Record<string, string>>
    },
  ) {
    this.#value = value
    this.type = facts.type
    this.scopes = facts.scopes
    this.expiresAt = facts.expiresAt
    this.warning = facts.warning
    this.fields = facts.fields ?? {}
  }
  reveal(): string {
    return this.#value
  }
  toString(): string {
    return '[token]'
  }
  toJSON(): string {
    return '[token]'
  }
  [inspect.custom](): string {
    return '[token]'
  }
}
