import { decodeJwt, decodeProtectedHeader, type JWTPayload } from 'jose'
import type { TokenEndpointResponse } from 'openid-client'
import type { DownstreamOf } from '../../config/downstream.ts'

/** The claims of an access token by RFC 9068; other tokens are nobody's to read but the service's. */
export const accessTokenClaims = (token: string): JWTPayload | undefined => {
  try { return /^(application\/)?at\+jwt$/i.test(String(decodeProtectedHeader(token).typ)) ? decodeJwt(token) : undefined } catch { return undefined }
}

/** What is wrong with an answer that has the form of the standard, whatever it is for; undefined: nothing. */
export const problemOfAnswer = ({ access_token: token, token_type: type, expires_in: life }: TokenEndpointResponse, audiences: readonly string[]): string | undefined => {
  if (type.toLowerCase() !== 'bearer') return `it issued a token of type ${type.slice(0, 30)}`
  if (life !== undefined && life <= 0) return 'it issued a token that has expired'
  const named = [accessTokenClaims(token)?.aud ?? []].flat()
  return audiences.length > 0 && named.length > 0 && !named.some((audience) => audiences.includes(audience)) ? 'it issued a token for another service' : undefined
}

/** For whom a grant's access tokens may say that they are; empty: its downstream does not say. */
export const audiencesOf = ({ resource, authorization_parameters: { audience } }: DownstreamOf<'oauth_grant'>): string[] => resource === undefined ? [] : [resource, ...(audience === undefined ? [] : [audience])]

/** Whether two access tokens say that they are for different users. */
export const isOfAnother = (before: string, after: string): boolean => {
  const [one, other] = [accessTokenClaims(before), accessTokenClaims(after)]
  return one?.sub !== undefined && other?.sub !== undefined && (one.iss !== other.iss || one.sub !== other.sub)
}
