import { z } from 'zod'
import type { Clock } from '#clock'
import { type DownstreamOf, ofTenant } from '#config'
import { refuse } from '#errors'
import { Secret } from '#foundation/crypto'
import { ACCESS_TOKEN_TYPE } from '#oauth'
import type { Connector, CredentialRequest } from '../connector.ts'
import type { AssertToCloud } from '../token-endpoint/federated-assertion.ts'
import { asForm, bearerSchema, tokenWords, type AskProvider } from '../token-endpoint/ask.ts'
import { DEFAULT_LIFETIME_MS } from '../token-endpoint/token-request.ts'

/** The scope by which a federated token may have a service account's token issued, and no more (https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken). */
const IAM = 'https://www.googleapis.com/auth/iam'
/** Longest life without a policy of the organisation (seconds). */
const MAX_LIFE_S = 3600

const issuedSchema = z.object({
  accessToken: z.string().min(1),
  expireTime: z.iso.datetime({ offset: true }).optional(),
})
const apiWordsSchema = z.object({ error: z.object({ status: z.string().optional(), message: z.string() }) })
const apiWords = (body: unknown): string | undefined => {
  const said = apiWordsSchema.safeParse(body).data?.error
  return said === undefined ? undefined : `${said.status ?? 'error'}: ${said.message}`
}

interface GcpStsDependencies {
  readonly ask: AskProvider
  readonly assertToCloud: AssertToCloud
  readonly clock: Clock
}

/** A token of Google's, before it is limited to what the request may have. */
interface IssuedToken {
  readonly token: Secret
  /** ms since the epoch. */
  readonly endsAt: number
  readonly auditNote: string
}

/** A request with its times: when it began, and how long the token may live (ms). */
interface GcpRequest {
  readonly request: CredentialRequest
  readonly downstream: DownstreamOf<'gcp_sts'>
  /** The scopes in Google's form. */
  readonly scopes: readonly string[]
  readonly before: number
  readonly longest: number
}

/**
 * `gcp_sts`: workload identity federation. A token that Deputy signs is exchanged (https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token)
 * for a token of the scopes that were asked, or for one by which only the token of a service account can be issued.
 */
export const createGcpStsConnector = (deps: GcpStsDependencies): Connector => ({
  kind: 'gcp_sts',
  async obtain(request) {
    const downstream = request.downstream as DownstreamOf<'gcp_sts'>
    const { downstream: provider, service_accounts: accounts } = downstream
    const account = ofTenant(accounts, downstream.service_account, request.principal.tenant)
    if (account === undefined && Object.keys(accounts).length > 0)
      throw refuse('target_unknown', { target: provider, server: request.server.server })
    if (request.scopes.length === 0)
      throw refuse('scope_not_available', { scopes: '', server: request.server.server, downstream: provider })
    const scopes = request.scopes.map((each) => downstream.scope_prefix + each)
    const before = deps.clock.now()
    const longest = Math.min(downstream.lifetime ?? Infinity, request.notAfter - before)
    const gcp = { request, downstream, scopes, before, longest }
    const federated = await exchange(deps, gcp, account === undefined ? scopes.join(' ') : IAM)
    const { token, endsAt, auditNote } =
      account === undefined ? federated : await issueOf(deps, gcp, account, federated.token)
    if (endsAt <= deps.clock.now())
      throw refuse('provider_refused', { provider, problem: 'it issued a token that has expired' })
    return {
      token,
      issuedTokenType: ACCESS_TOKEN_TYPE,
      tokenType: 'Bearer',
      scopes: request.scopes,
      overScoped: false,
      expiresAt: Math.min(endsAt, before + longest),
      auditNote,
    }
  },
})

/** The federated token for a scope. */
const exchange = async (
  deps: GcpStsDependencies,
  { request, downstream, scopes, before }: GcpRequest,
  scope: string,
): Promise<IssuedToken> => {
  const { pool_provider: pool, audience = `https:${pool}`, subject } = downstream
  const federated = await deps.ask({
    provider: downstream.downstream,
    tenant: request.principal.tenant,
    operation: 'federated token request',
    url: downstream.sts_url,
    schema: bearerSchema,
    words: tokenWords,
    init: () =>
      Promise.resolve(
        asForm({
          grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
          audience: pool,
          scope,
          requested_token_type: ACCESS_TOKEN_TYPE,
          subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
          subject_token: deps.assertToCloud(request, { audience, subject }),
        }),
      ),
  })
  return {
    token: new Secret(federated.access_token),
    endsAt: before + (federated.expires_in ?? DEFAULT_LIFETIME_MS / 1000) * 1000,
    auditNote: `Google exchanged a token of Deputy's for ${scopes.join(' ')}.`,
  }
}

/** The token of a service account. */
const issueOf = async (
  deps: GcpStsDependencies,
  { request, downstream, scopes, before, longest }: GcpRequest,
  account: string,
  federated: Secret,
): Promise<IssuedToken> => {
  const seconds = Math.max(1, Math.min(MAX_LIFE_S, Math.floor(longest / 1000)))
  const issued = await deps.ask({
    provider: downstream.downstream,
    tenant: request.principal.tenant,
    operation: 'service account token request',
    schema: issuedSchema,
    words: apiWords,
    url: `${downstream.iam_url.replace(/\/$/, '')}/v1/projects/-/serviceAccounts/${encodeURIComponent(account)}:generateAccessToken`,
    init: () =>
      Promise.resolve({
        method: 'POST',
        headers: {
          Authorization: `Bearer ${federated.reveal()}`,
          'Content-Type': 'application/json',
          Accept: 'application/json',
        },
        body: JSON.stringify({ scope: scopes, lifetime: `${seconds}s` }),
      }),
  })
  return {
    token: new Secret(issued.accessToken),
    endsAt: issued.expireTime === undefined ? before + DEFAULT_LIFETIME_MS : Date.parse(issued.expireTime),
    auditNote: `Google issued a token of ${account} for ${scopes.join(' ')}.`,
  }
}
