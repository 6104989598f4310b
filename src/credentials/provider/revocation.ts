import * as openid from 'openid-client'
import { z } from 'zod'
import { fillIn, type Provider } from '#config'
import { refuse } from '#errors'
import { type ProofKey, Secret } from '#foundation/crypto'
import { failureOf } from './failure.ts'
import { withNonce, type ProviderClient } from './client.ts'

/** The tokens of a grant that is to end, and the key that its refresh token may be bound to. */
export interface EndingTokens {
  readonly refreshToken: Secret | undefined
  readonly accessToken: Secret
  readonly proofKey?: ProofKey | undefined
}

interface RevocationRequest {
  readonly method: 'POST' | 'DELETE'
  readonly url?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  readonly authenticates?: true
}

interface Way {
  /** The tokens that it takes, in their order: a refresh token first, because with it gone no further access token can be had. */
  readonly tokens: (tokens: EndingTokens) => readonly (Secret | undefined)[]
  /** Undefined: as RFC 7009 says. */
  readonly request?: (token: Secret, endpoint: string) => RevocationRequest
  /** Statuses that say that there is no such token, so that nothing is left to end. */
  readonly gone?: readonly number[]
}

const FORM = 'application/x-www-form-urlencoded'

/** How grants are ended at providers, by the names that their files have for it. */
const ways: Readonly<Record<Exclude<Provider['revocation'], 'none'>, Way>> = {
  rfc7009: { tokens: ({ refreshToken, accessToken }) => [refreshToken, accessToken] },
  // For services whose access tokens cannot be ended before they expire, and that refuse such a request.
  rfc7009_refresh: { tokens: ({ refreshToken }) => [refreshToken] },
  // https://developers.google.com/identity/protocols/oauth2/web-server#tokenrevoke: either token ends the grant.
  token_alone: {
    tokens: ({ refreshToken, accessToken }) => [refreshToken ?? accessToken],
    request: (token) => ({
      method: 'POST',
      headers: { 'content-type': FORM },
      body: new URLSearchParams({ token: token.reveal() }).toString(),
    }),
  },
  // https://docs.slack.dev/reference/methods/auth.revoke, https://www.dropbox.com/developers/documentation/http/documentation#auth-token-revoke: 401 for a token that has ended.
  bearer: {
    tokens: ({ accessToken }) => [accessToken],
    gone: [401],
    request: (token) => ({ method: 'POST', headers: { authorization: `Bearer ${token.reveal()}` } }),
  },
  // https://docs.github.com/en/rest/apps/oauth-applications#delete-an-app-token: 404 and 422 for one that it does not know.
  delete_json: {
    tokens: ({ accessToken }) => [accessToken],
    gone: [404, 422],
    request: (token) => ({
      method: 'DELETE',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ access_token: token.reveal() }),
      authenticates: true,
    }),
  },
  token_in_path: {
    tokens: ({ refreshToken }) => [refreshToken],
    gone: [404],
    request: (token, endpoint) => ({
      method: 'DELETE',
      url: fillIn(endpoint, { token: encodeURIComponent(token.reveal()) }),
    }),
  },
}

/** How a request ended: the token with it, or before it. */
type Ending = 'ended' | 'gone'

const overSchema = z.object({ error: z.enum(['invalid_grant', 'invalid_token']) })
const isOver = (text: string): boolean => {
  try {
    return overSchema.safeParse(JSON.parse(text)).success
  } catch {
    return false
  }
}

const send = async (client: ProviderClient, { gone = [], request }: Way, token: Secret): Promise<Ending> => {
  const endpoint = client.server.revocation_endpoint!
  if (request === undefined) {
    await openid.tokenRevocation(client.configuration(), token.reveal())
    return 'ended'
  }
  const { method, url = endpoint, headers: given, body, authenticates } = request(token, endpoint)
  const headers = new Headers(given)
  headers.set('accept', 'application/json')
  if (authenticates === true) await client.authenticateBasic(headers)
  const response = await client.fetch(url, { method, headers, ...(body === undefined ? {} : { body }) })
  if (response.ok) return 'ended'
  if (gone.includes(response.status) || isOver(await response.text())) return 'gone'
  const facts = {
    provider: client.provider.provider,
    problem: `it answered a revocation with status ${response.status}`,
  }
  throw response.status >= 500 || response.status === 429
    ? refuse('provider_unavailable', { ...facts, seconds: 30 })
    : refuse('provider_refused', facts)
}

/** A last access token of the grant, to end it with. @returns undefined where the grant is over anyway */
const renew = async (
  client: ProviderClient,
  refreshToken: Secret,
  key: ProofKey | undefined,
): Promise<Secret | undefined> => {
  const proof = await client.proof(key)
  try {
    return new Secret(
      (
        await withNonce(proof, () =>
          openid.refreshTokenGrant(client.configuration(undefined, proof), refreshToken.reveal()),
        )
      ).access_token,
    )
  } catch (error) {
    if (failureOf(error) === 'denied') return undefined
    throw error
  }
}

/**
 * Ends a grant at its provider. @param around wraps each request, for retries and telemetry
 * @returns `not_offered` where the provider has no way to do it
 * @throws DeputyError `provider_refused`, `provider_unavailable`, and what the request throws
 */
export const revokeTokens = async (
  client: ProviderClient,
  tokens: EndingTokens,
  around: <T>(request: () => Promise<T>) => Promise<T> = (request) => request(),
): Promise<'done' | 'not_offered'> => {
  const { provider, server } = client
  if (provider.revocation === 'none' || server.revocation_endpoint === undefined) return 'not_offered'
  const way = ways[provider.revocation]
  const taken = way.tokens(tokens).filter((token) => token !== undefined)
  if (taken.length === 0) return 'not_offered'
  const end = async (token: Secret): Promise<void> => {
    const ending = await around(() => send(client, way, token))
    // An access token that has ended by itself ends nothing, while the refresh token lives on.
    if (ending !== 'gone' || token !== tokens.accessToken || tokens.refreshToken === undefined) return
    const { refreshToken, proofKey } = tokens
    const last = await around(() => renew(client, refreshToken, proofKey))
    if (last !== undefined) await around(() => send(client, way, last))
  }
  const failures: unknown[] = []
  // What can be ended is ended, whatever becomes of the rest.
  for (const token of taken)
    await end(token).catch((error: unknown) => {
      failures.push(error)
    })
  // RFC 7009 section 2.2.1: some services end only refresh tokens, and access tokens live until they expire.
  const liveSessions = failures.length < taken.length ? failures.find((error) => !isUnsupported(error)) : failures[0]
  if (liveSessions !== undefined) throw liveSessions
  return 'done'
}

const isUnsupported = (error: unknown): boolean =>
  error instanceof openid.ResponseBodyError && error.error === 'unsupported_token_type'
