import type { Secret } from '#foundation/crypto'
import { formsOf } from './forms.ts'
import { needlesOf, type Needles } from './rewriter.ts'

/** A credential out of the cache is the same object again: the forms in which a service may repeat it are made once. */
export class RedactionCache {
  readonly #known = new WeakMap<Secret, { readonly secrets: readonly string[]; readonly needles: Needles }>()

  /** What must not come back. @param secrets every text of the token that went into the request */
  needlesFor(token: Secret, secrets: readonly string[]): Needles {
    const found = this.#known.get(token)
    if (
      found !== undefined &&
      found.secrets.length === secrets.length &&
      secrets.every((secret, at) => found.secrets[at] === secret)
    )
      return found.needles
    const needles = needlesOf(formsOf(secrets))
    this.#known.set(token, { secrets, needles })
    return needles
  }
}
