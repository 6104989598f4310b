import { z } from 'zod'
import { type DownstreamOf, type Provider, wantsBound } from '#config'
import { type Envelope, openProofKey, type ProofKey, proofKeyText, Secret } from '#foundation/crypto'
import { type Grant, grantRecordName } from '#foundation/store'

const tokensSchema = z.strictObject({
  refresh_token: z.string().optional(),
  access_token: z.string(),
  /** ms since the epoch. */
  access_obtained_at: z.number(),
  access_expires_at: z.number(),
  refresh_until: z.number().optional(),
  access_scopes: z.array(z.string()).optional(),
  /** Where a refresh goes and as whom: kept with the tokens, because they belong together. */
  client_id: z.string(),
  token_endpoint: z.string(),
  resource: z.string().optional(),
  redirect_uri: z.string().optional(),
  /** What the provider's answer said beside the token (`response_fields`). */
  fields: z.record(z.string(), z.string()).optional(),
  /** A private key (PEM): the refresh token of a public client is bound to it, and the access token where it says so (RFC 9449 section 5). */
  proof_key: z.string().optional(),
  bound: z.boolean().optional(),
  forced_at: z.number().optional(),
  resting_since: z.number().optional(),
  doubts: z.number().int().optional(),
})

/** What a grant holds in its sealed part. */
export interface GrantTokens {
  readonly refreshToken: Secret | undefined
  readonly accessToken: Secret
  readonly accessObtainedAt: number
  readonly accessExpiresAt: number
  /** What the provider said of the access token, where a refresh answered other scopes than the grant has. */
  readonly accessScopes?: readonly string[] | undefined
  /** When the refresh token ends if it is not exchanged before, where the provider says so. */
  readonly refreshUntil?: number | undefined
  readonly clientId: string
  readonly tokenEndpoint: string
  readonly resource: string | undefined
  /** Of the authorization request, for providers that want to hear it again. */
  readonly redirectUri?: string | undefined
  /** What the provider's answer said beside the token, for servers. */
  readonly fields?: Readonly<Record<string, string>> | undefined
  /** What requests for tokens of this grant prove, on every node and after a restart. */
  readonly proofKey?: ProofKey | undefined
  /** Whether the access token is bound to it. */
  readonly bound?: boolean | undefined
  /** When a refresh was forced the last time because the service refused the access token (ms since the epoch). */
  readonly forcedAt?: number | undefined
  /** Since when the service refuses fresh access tokens as well (ms since the epoch). */
  readonly restingSince?: number | undefined
  /** How often the refresh token was tried again while the answer to a try is not known. */
  readonly doubts?: number | undefined
}

export const sealTokens = (
  envelope: Envelope,
  grant: Parameters<typeof grantRecordName>[0],
  tokens: GrantTokens,
): Promise<Uint8Array> =>
  envelope.seal(
    grantRecordName(grant),
    new Secret(
      JSON.stringify({
        ...(tokens.refreshToken === undefined ? {} : { refresh_token: tokens.refreshToken.reveal() }),
        access_token: tokens.accessToken.reveal(),
        access_obtained_at: tokens.accessObtainedAt,
        access_expires_at: tokens.accessExpiresAt,
        ...(tokens.accessScopes === undefined ? {} : { access_scopes: [...tokens.accessScopes] }),
        ...(tokens.refreshUntil === undefined ? {} : { refresh_until: tokens.refreshUntil }),
        client_id: tokens.clientId,
        token_endpoint: tokens.tokenEndpoint,
        ...(tokens.resource === undefined ? {} : { resource: tokens.resource }),
        ...(tokens.redirectUri === undefined ? {} : { redirect_uri: tokens.redirectUri }),
        ...(Object.keys(tokens.fields ?? {}).length === 0 ? {} : { fields: { ...tokens.fields } }),
        ...(tokens.proofKey === undefined ? {} : { proof_key: proofKeyText(tokens.proofKey).reveal() }),
        ...(tokens.bound === true ? { bound: true } : {}),
        ...(tokens.forcedAt === undefined ? {} : { forced_at: tokens.forcedAt }),
        ...(tokens.restingSince === undefined ? {} : { resting_since: tokens.restingSince }),
        ...(tokens.doubts === undefined ? {} : { doubts: tokens.doubts }),
      } satisfies z.output<typeof tokensSchema>),
    ),
  )

/** @throws DeputyError `secret_unreadable` */
export const openTokens = async (envelope: Envelope, grant: Grant): Promise<GrantTokens> => {
  const stored = tokensSchema.parse(JSON.parse((await envelope.open(grantRecordName(grant), grant.sealed)).reveal()))
  return {
    refreshToken: stored.refresh_token === undefined ? undefined : new Secret(stored.refresh_token),
    accessToken: new Secret(stored.access_token),
    accessObtainedAt: stored.access_obtained_at,
    accessExpiresAt: stored.access_expires_at,
    accessScopes: stored.access_scopes,
    refreshUntil: stored.refresh_until,
    clientId: stored.client_id,
    tokenEndpoint: stored.token_endpoint,
    resource: stored.resource,
    redirectUri: stored.redirect_uri,
    fields: stored.fields ?? {},
    ...(stored.proof_key === undefined ? {} : { proofKey: await openProofKey(new Secret(stored.proof_key)) }),
    bound: stored.bound ?? false,
    forcedAt: stored.forced_at,
    restingSince: stored.resting_since,
    doubts: stored.doubts,
  }
}

/** Whether the access token is bound, or is not, as the files want it now: one of before they were changed is not used on. */
export const isBoundAsWanted = (
  { bound }: GrantTokens,
  downstream: DownstreamOf<'oauth_grant'>,
  provider: Provider | undefined,
): boolean => (bound === true ? wantsBound(downstream, provider) : provider?.dpop !== 'required')
