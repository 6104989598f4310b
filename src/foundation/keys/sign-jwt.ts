import { compactJws } from '#foundation/crypto'
import type { SigningKeys, SigningPurpose } from './signing-keys.ts'

/** A JWT that is signed with a key of Deputy's own. */
export const signJwt = (
  keys: SigningKeys,
  header: Readonly<Record<string, unknown>>,
  claims: Readonly<Record<string, unknown>>,
  purpose: SigningPurpose = 'token',
): string =>
  compactJws(
    { alg: keys.algorithm(purpose), kid: keys.kid(purpose), ...header },
    claims,
    (input) => keys.sign(purpose, input).signature,
  )
