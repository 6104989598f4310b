import { type Clock, type Random, toSeconds } from '#clock'
import type { CurrentSnapshot, Server } from '#config'
import { randomText, Secret } from '#foundation/crypto'
import { type SigningKeys, signJwt } from '#foundation/keys'
import { ACCESS_TOKEN_TYPE } from '#oauth'
import type { IssuedToken } from './issue.ts'

export interface AccessTokenDependencies {
  readonly snapshot: CurrentSnapshot
  readonly issuer: () => string
  readonly keys: SigningKeys
  readonly clock: Clock
  readonly random: Random
}

/** For whom an access token of an MCP server is, and what it says. */
export interface AccessTokenFacts {
  readonly subject: string
  readonly client: string
  readonly tenant: string
  readonly server: Server
  readonly scopes: readonly string[]
  /** Ids of what the token descends from. */
  readonly ancestors: readonly string[]
  readonly claims: Readonly<Record<string, unknown>>
}

/** Signs an access token (RFC 9068) for an MCP server, which lasts as the settings say. */
export const signAccessToken = (
  { snapshot, issuer, keys, clock, random }: AccessTokenDependencies,
  { subject, client, tenant, server, scopes, ancestors, claims }: AccessTokenFacts,
): { readonly tokenId: string; readonly issued: IssuedToken } => {
  const now = clock.now()
  const tokenId = randomText(random, 16)
  const expiresAt = toSeconds(now + snapshot().settings.tokens.lifetime) * 1000
  const token = signJwt(
    keys,
    { typ: 'at+jwt' },
    {
      iss: issuer(),
      sub: subject,
      aud: server.resource,
      client_id: client,
      tenant,
      ...(scopes.length === 0 ? {} : { scope: scopes.join(' ') }),
      iat: toSeconds(now),
      exp: toSeconds(expiresAt),
      jti: tokenId,
      ...claims,
      anc: ancestors,
    },
  )
  return {
    tokenId,
    issued: {
      token: new Secret(token),
      issuedTokenType: ACCESS_TOKEN_TYPE,
      tokenType: 'Bearer',
      scopes,
      expiresIn: toSeconds(expiresAt - now),
    },
  }
}
