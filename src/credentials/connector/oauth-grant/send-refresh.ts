import * as openid from 'openid-client'
import { z } from 'zod'
import type { DownstreamOf } from '#config'
import {
  audiencesOf,
  type CallFailure,
  type CallProvider,
  failureOf,
  fieldsOf,
  isBound,
  isOfAnother,
  plainly,
  problemOfAnswer,
  type Proof,
  type ProviderClient,
  refreshUntilOf,
  scopesOf,
  tokenLifeOf,
  withNonce,
  wordsOf,
} from '#credentials/provider'
import { refuse } from '#errors'
import { Secret } from '#foundation/crypto'
import type { Grant } from '#foundation/store'
import type { GrantTokens } from './grant.ts'

const receivedSchema = z.looseObject({
  access_token: z.string().min(1).optional().catch(undefined),
  refresh_token: z.string().min(1).optional().catch(undefined),
})

/** A refresh that brought no token to hand out. */
export interface FailedRefresh {
  readonly event: CallFailure
  readonly error: unknown
  /** The provider's own words, without secrets. */
  readonly words: string
  /** Tokens that its answer has nevertheless. */
  readonly received: z.output<typeof receivedSchema>
}

/** Sends the refresh token of a grant (RFC 6749 section 6). @param options.before when it must have been sent (`performance.now()`), or it is not sent any more */
export const sendRefresh = async (
  deps: { readonly call: CallProvider },
  options: {
    readonly client: ProviderClient
    readonly tokens: GrantTokens
    readonly grant: Grant
    readonly downstream: DownstreamOf<'oauth_grant'>
    readonly scopes: readonly string[] | undefined
    readonly before: number
    readonly proof: Proof | undefined
  },
): Promise<{ readonly event: 'answered'; readonly response: openid.TokenEndpointResponse } | FailedRefresh> => {
  const { client, tokens, grant, downstream, scopes, before, proof } = options
  let seen = ''
  const parameters: Record<string, string> = {
    ...(scopes === undefined ? {} : { scope: scopes.join(client.provider.scope_separator) }),
    ...(tokens.resource === undefined ? {} : { resource: tokens.resource }),
    ...(client.provider.refresh.redirect_uri && tokens.redirectUri !== undefined
      ? { redirect_uri: tokens.redirectUri }
      : {}),
  }
  try {
    const response = await deps.call(
      { provider: client.provider.provider, tenant: grant.tenant, operation: 'refresh' },
      () =>
        withNonce(proof, () => {
          // A process that slept meanwhile, or waited for a nonce, may find its claim over: what it sends now could meet what another has sent.
          if (performance.now() > before)
            throw refuse('refresh_in_progress', { downstream: grant.downstream, seconds: 2 })
          return openid.refreshTokenGrant(
            client.configuration((_status, text) => {
              seen = text
            }, proof),
            tokens.refreshToken!.reveal(),
            parameters,
          )
        }),
    )
    const { issuer } = client.provider
    const foreign = isOfAnother(tokens.accessToken.reveal(), response.access_token, issuer)
    const problem = foreign
      ? 'it issued a token for another user'
      : problemOfAnswer(response, { provider: client.provider, audiences: audiencesOf(downstream), proof })
    if (problem === undefined) return { event: 'answered' as const, response }
    const error = refuse('provider_refused', { provider: client.provider.provider, problem })
    return { event: 'unverified' as const, error, words: problem, received: foreign ? {} : receivedIn(seen) }
  } catch (thrown) {
    const error = plainly(thrown)
    return {
      event: failureOf(error),
      error,
      words: wordsOf(error, seen.replaceAll(tokens.refreshToken!.reveal(), '***')),
      received: receivedIn(seen),
    }
  }
}

const receivedIn = (text: string): z.output<typeof receivedSchema> => {
  try {
    return receivedSchema.safeParse(JSON.parse(text)).data ?? {}
  } catch {
    return {}
  }
}

/** The tokens of a grant after an answer. @param asked the scopes to which the access token was narrowed */
export const toTokens = async (
  client: ProviderClient,
  before: GrantTokens,
  response: openid.TokenEndpointResponse,
  {
    downstream,
    grant,
    asked,
    now,
  }: {
    readonly downstream: DownstreamOf<'oauth_grant'>
    readonly grant: Grant
    readonly asked: readonly string[] | undefined
    readonly now: number
  },
): Promise<GrantTokens> => {
  const lifetime = Math.min(await tokenLifeOf(client, response, now), downstream.lifetime ?? Infinity)
  return {
    ...before,
    doubts: undefined,
    fields: { ...before.fields, ...fieldsOf(client.provider, response) },
    accessToken: new Secret(response.access_token),
    accessObtainedAt: now,
    // RFC 6749 section 5.1: an answer that names no scopes means those that were asked for. Without a narrowing these are
    // the last that the provider named: one that widened the token has not taken that back by saying nothing.
    accessScopes:
      scopesOf(client.provider, response, asked ?? grant.scopes, downstream.scopes) ?? asked ?? before.accessScopes,
    accessExpiresAt: now + lifetime,
    refreshUntil: refreshUntilOf(response, now),
    bound: isBound(response),
    // RFC 6749 section 6: the old one stays when none came back.
    refreshToken: response.refresh_token === undefined ? before.refreshToken : new Secret(response.refresh_token),
  }
}
