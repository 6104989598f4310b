import * as openid from 'openid-client'
import { expiresInOf } from './answer-members.ts'
import type { ProviderClient } from './client.ts'

/** Of a token that lives until it is revoked (ms). */
const NO_END_MS = 10 * 365 * 86_400_000
/** Of a token whose end the provider did not name when asked (ms). */
const UNKNOWN_END_MS = 300_000
/** How long the answer to that request may take (s): a claim on the grant has to outlast it. */
const PATIENCE_S = 1

/** A member of draft-ietf-oauth-refresh-token-expiration (s); what is left out has no end that is known. */
const endOf = (
  response: openid.TokenEndpointResponse,
  member: 'refresh_token_timeout' | 'authorization_expires_in',
): number | undefined => {
  const seconds = expiresInOf(response[member])
  return seconds === 0 ? undefined : seconds
}

/** Until when the refresh token of an answer has to be exchanged, if it is to be at all (ms since the epoch). */
export const refreshUntilOf = (response: openid.TokenEndpointResponse, now: number): number | undefined => {
  const timeout = endOf(response, 'refresh_token_timeout')
  return timeout === undefined ? undefined : now + timeout * 1000
}

/** How long an access token is used (ms): for as long as it lives, and never longer than what the user gave. */
export const tokenLifeOf = async (
  client: ProviderClient,
  response: openid.TokenEndpointResponse,
  now: number,
): Promise<number> => {
  const authorized = endOf(response, 'authorization_expires_in')
  return Math.min(await lifeOf(client, response, now), authorized === undefined ? Infinity : authorized * 1000)
}

/**
 * How long an access token lives (ms): as its answer says, else as the provider's file or its introspection endpoint
 * (RFC 7662) does; RFC 6749 section 5.1 leaves it to documentation.
 */
const lifeOf = async (client: ProviderClient, response: openid.TokenEndpointResponse, now: number): Promise<number> => {
  if (response.expires_in !== undefined) return response.expires_in * 1000
  const { access_token_lifetime: lifetime } = client.provider
  if (lifetime === 'never') return NO_END_MS
  if (lifetime !== 'introspect') return lifetime
  const configuration = client.configuration()
  configuration.timeout = PATIENCE_S
  try {
    const { active, exp } = await openid.tokenIntrospection(configuration, response.access_token)
    const left = exp === undefined ? undefined : expiresInOf(exp - now / 1000)
    return active && left !== undefined ? left * 1000 : UNKNOWN_END_MS
  } catch {
    return UNKNOWN_END_MS
  }
}
