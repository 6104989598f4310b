import { z } from 'zod'
import type { Envelope } from '../../crypto/envelope.ts'
import { Secret } from '../../crypto/secret.ts'
import type { Grant } from '../../store/store.ts'

const tokensSchema = z.strictObject({
  refresh_token: z.string().optional(),
  access_token: z.string(),
  /** ms since the epoch. */
  access_obtained_at: z.number(),
  access_expires_at: z.number(),
  /** Where a refresh goes and as whom: kept with the tokens, because they belong together. */
  client_id: z.string(),
  token_endpoint: z.string(),
  resource: z.string().optional(),
  redirect_uri: z.string().optional(),
  /** What the provider's answer said beside the token (`response_fields`). */
  fields: z.record(z.string(), z.string()).optional(),
})

/** What a grant holds in its sealed part. */
export interface GrantTokens {
  readonly refreshToken: Secret | undefined
  readonly accessToken: Secret
  readonly accessObtainedAt: number
  readonly accessExpiresAt: number
  readonly clientId: string
  readonly tokenEndpoint: string
  readonly resource: string | undefined
  /** Of the authorization request, for providers that want to hear it again. */
  readonly redirectUri?: string | undefined
  /** What the provider's answer said beside the token, for servers. */
  readonly fields?: Readonly<Record<string, string>> | undefined
}

const nameOf = ({ tenant, id }: Pick<Grant, 'tenant' | 'id'>) => ({ tenant, kind: 'grant', id })

export const sealTokens = (envelope: Envelope, grant: Pick<Grant, 'tenant' | 'id'>, tokens: GrantTokens): Promise<Uint8Array> =>
  envelope.seal(nameOf(grant), new Secret(JSON.stringify({
    ...(tokens.refreshToken === undefined ? {} : { refresh_token: tokens.refreshToken.reveal() }),
    access_token: tokens.accessToken.reveal(), access_obtained_at: tokens.accessObtainedAt, access_expires_at: tokens.accessExpiresAt,
    client_id: tokens.clientId, token_endpoint: tokens.tokenEndpoint, ...(tokens.resource === undefined ? {} : { resource: tokens.resource }),
    ...(tokens.redirectUri === undefined ? {} : { redirect_uri: tokens.redirectUri }), ...(Object.keys(tokens.fields ?? {}).length === 0 ? {} : { fields: { ...tokens.fields } }),
  } satisfies z.output<typeof tokensSchema>)))

/** @throws DeputyError `secret_unreadable` */
export const openTokens = async (envelope: Envelope, grant: Grant): Promise<GrantTokens> => {
  const stored = tokensSchema.parse(JSON.parse((await envelope.open(nameOf(grant), grant.sealed)).reveal()))
  return {
    refreshToken: stored.refresh_token === undefined ? undefined : new Secret(stored.refresh_token), accessToken: new Secret(stored.access_token),
    accessObtainedAt: stored.access_obtained_at, accessExpiresAt: stored.access_expires_at,
    clientId: stored.client_id, tokenEndpoint: stored.token_endpoint, resource: stored.resource, redirectUri: stored.redirect_uri, fields: stored.fields ?? {},
  }
}
