import { decodeJwt } from 'jose'
import { refuse } from '#errors'
import { isCompactJws } from '#foundation/crypto'
import { ACCESS_TOKEN_TYPE, JWT_TOKEN_TYPE } from '#oauth'
import { invalid } from './checks.ts'
import type { SubjectRequest } from './dependencies.ts'

/** The longest token that is read, in characters. */
export const MAX_TOKEN_LENGTH = 16_384

/** Whether a token type of a request is one that Deputy verifies. */
export const isVerifiableType = (tokenType: string | undefined): boolean =>
  tokenType === ACCESS_TOKEN_TYPE || tokenType === JWT_TOKEN_TYPE

const issuerNamedBy = (token: string): string | undefined => {
  try {
    return decodeJwt(token).iss
  } catch {
    return undefined
  }
}

/** The length, the characters and the type of a token. @throws DeputyError `unsupported_token_type`, `parameter_missing`, `subject_token_invalid` */
export const assertUsable = ({ token, tokenType }: SubjectRequest): void => {
  if (!isVerifiableType(tokenType))
    throw refuse('unsupported_token_type', { token_type: tokenType.slice(0, 100), parameter: 'subject_token_type' })
  const text = token.reveal()
  if (text === '') throw refuse('parameter_missing', { parameter: 'subject_token' })
  if (text.length > MAX_TOKEN_LENGTH) throw invalid(`it is longer than ${MAX_TOKEN_LENGTH} characters`)
  // RFC 6750 section 2.1: no token has a space in it. Decoders skip them, so that one token could have several texts.
  if (!/^[\x21-\x7e]+$/.test(text)) throw invalid('it holds a space, a line break or another character of no token')
}

/**
 * Checks the form of a token that is not cached: the text of a cached token was checked before.
 * @returns the issuer that it names, before anything is believed: it only says which keys to try. Undefined: no JWT
 * @throws DeputyError `subject_token_invalid`
 */
export const readableIssuer = ({ token, tokenType }: SubjectRequest): string | undefined => {
  const text = token.reveal()
  const issuer = issuerNamedBy(text)
  if (issuer !== undefined && !isCompactJws(text)) throw invalid('it is no JWT in compact form')
  if (tokenType === JWT_TOKEN_TYPE && issuer === undefined) throw invalid('it is no JWT with an issuer')
  return issuer
}
