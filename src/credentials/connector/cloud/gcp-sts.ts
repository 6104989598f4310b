import { z } from 'zod'
import type { Clock } from '#clock'
import { type DownstreamOf, ofTenant } from '#config'
import { refuse } from '#errors'
import { Secret } from '#foundation/crypto'
import { ACCESS_TOKEN_TYPE } from '#oauth'
import type { Connector } from '../connector.ts'
import type { AssertToCloud } from '../token-endpoint/federated-assertion.ts'
import { asForm, bearerSchema, tokenWords, type AskProvider } from '../token-endpoint/ask.ts'
import { UNSAID_LIFETIME } from '../token-endpoint/token-request.ts'

/** What a federated token needs to have a service account's issued, and no more (https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken). */
const IAM = 'https://www.googleapis.com/auth/iam'
/** Longest life without a policy of the organisation (seconds). */
const LONGEST = 3600

const issuedSchema = z.object({
  accessToken: z.string().min(1),
  expireTime: z.iso.datetime({ offset: true }).optional(),
})
const apiWordsSchema = z.object({ error: z.object({ status: z.string().optional(), message: z.string() }) })
const apiWords = (body: unknown): string | undefined => {
  const said = apiWordsSchema.safeParse(body).data?.error
  return said === undefined ? undefined : `${said.status ?? 'error'}: ${said.message}`
}

/**
 * `gcp_sts`: workload identity federation. A token that Deputy signs is exchanged (https://cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token),
 * for a token of the scopes that were asked, or for one that can do nothing but have that of a service account issued.
 */
export const createGcpStsConnector = (deps: {
  readonly ask: AskProvider
  readonly assertToCloud: AssertToCloud
  readonly clock: Clock
}): Connector => ({
  kind: 'gcp_sts',
  async obtain(request) {
    const downstream = request.downstream as DownstreamOf<'gcp_sts'>
    const { tenant } = request.principal
    const { downstream: provider, pool_provider: pool, service_accounts: accounts } = downstream
    const account = ofTenant(accounts, downstream.service_account, tenant)
    if (account === undefined && Object.keys(accounts).length > 0)
      throw refuse('target_unknown', { target: provider, server: request.server.server })
    if (request.scopes.length === 0)
      throw refuse('scope_not_available', { scopes: '', server: request.server.server, downstream: provider })
    const scopes = request.scopes.map((each) => downstream.scope_prefix + each)
    const before = deps.clock.now()
    const federated = await deps.ask({
      provider,
      tenant,
      operation: 'federated token request',
      url: downstream.sts_url,
      schema: bearerSchema,
      words: tokenWords,
      init: () =>
        Promise.resolve(
          asForm({
            grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
            audience: pool,
            scope: account === undefined ? scopes.join(' ') : IAM,
            requested_token_type: ACCESS_TOKEN_TYPE,
            subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
            subject_token: deps.assertToCloud(request, {
              audience: downstream.audience ?? `https:${pool}`,
              subject: downstream.subject,
            }),
          }),
        ),
    })
    const longest = Math.min(downstream.lifetime ?? Infinity, request.notAfter - before)
    const common = {
      issuedTokenType: ACCESS_TOKEN_TYPE,
      tokenType: 'Bearer',
      scopes: request.scopes,
      overScoped: false,
    } as const
    const until = (end: number): number => {
      if (end <= deps.clock.now())
        throw refuse('provider_refused', { provider, problem: 'it issued a token that has expired' })
      return Math.min(end, before + longest)
    }
    if (account === undefined)
      return {
        ...common,
        token: new Secret(federated.access_token),
        expiresAt: until(before + (federated.expires_in ?? UNSAID_LIFETIME / 1000) * 1000),
        auditNote: `Google exchanged a token of Deputy's for ${scopes.join(' ')}.`,
      }
    const issued = await deps.ask({
      provider,
      tenant,
      operation: 'service account token request',
      schema: issuedSchema,
      words: apiWords,
      url: `${downstream.iam_url.replace(/\/$/, '')}/v1/projects/-/serviceAccounts/${encodeURIComponent(account)}:generateAccessToken`,
      init: () =>
        Promise.resolve({
          method: 'POST',
          headers: {
            Authorization: `Bearer ${federated.access_token}`,
            'Content-Type': 'application/json',
            Accept: 'application/json',
          },
          body: JSON.stringify({
            scope: scopes,
            lifetime: `${Math.max(1, Math.min(LONGEST, Math.floor(longest / 1000)))}s`,
          }),
        }),
    })
    return {
      ...common,
      token: new Secret(issued.accessToken),
      expiresAt: until(issued.expireTime === undefined ? before + UNSAID_LIFETIME : Date.parse(issued.expireTime)),
      auditNote: `Google issued a token of ${account} for ${scopes.join(' ')}.`,
    }
  },
})
