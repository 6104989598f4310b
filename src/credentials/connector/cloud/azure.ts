import type { Clock } from '#clock'
import { type DownstreamOf, ofTenant } from '#config'
import { refuse } from '#errors'
import { Secret } from '#foundation/crypto'
import { ACCESS_TOKEN_TYPE } from '#oauth'
import type { Connector } from '../connector.ts'
import type { AssertToCloud } from '../token-endpoint/federated-assertion.ts'
import { asForm, bearerSchema, tokenWords, type AskProvider } from '../token-endpoint/ask.ts'
import { DEFAULT_LIFETIME_MS } from '../token-endpoint/token-request.ts'

/**
 * `azure`: the client credentials flow of Microsoft Entra ID with a federated credential
 * (https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow#third-case-access-token-request-with-a-federated-credential).
 * `/.default` is all that the application may do at the service: nothing of it can be narrowed.
 */
export const createAzureConnector = (deps: {
  readonly ask: AskProvider
  readonly assertToCloud: AssertToCloud
  readonly clock: Clock
}): Connector => ({
  kind: 'azure',
  async obtain(request) {
    const downstream = request.downstream as DownstreamOf<'azure'>
    const { tenant } = request.principal
    const { downstream: provider, identities } = downstream
    const identity = ofTenant(identities, downstream.identity, tenant)
    if (identity === undefined) throw refuse('target_unknown', { target: provider, server: request.server.server })
    const before = deps.clock.now()
    const answer = await deps.ask({
      provider,
      tenant,
      operation: 'federated credential request',
      url: `${downstream.authority_url.replace(/\/$/, '')}/${identity.directory}/oauth2/v2.0/token`,
      schema: bearerSchema,
      words: tokenWords,
      init: () =>
        Promise.resolve(
          asForm({
            grant_type: 'client_credentials',
            client_id: identity.client_id,
            scope: downstream.scope,
            client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
            client_assertion: deps.assertToCloud(request, {
              audience: downstream.audience,
              subject: downstream.subject,
            }),
          }),
        ),
    })
    const life = answer.expires_in === undefined ? DEFAULT_LIFETIME_MS : answer.expires_in * 1000
    if (life <= 0) throw refuse('provider_refused', { provider, problem: 'it issued a token that has expired' })
    return {
      token: new Secret(answer.access_token),
      issuedTokenType: ACCESS_TOKEN_TYPE,
      tokenType: 'Bearer',
      scopes: request.scopes,
      overScoped: false,
      expiresAt: Math.min(before + Math.min(life, downstream.lifetime ?? Infinity), request.notAfter),
      auditNote: `Entra ID issued a token of the application ${identity.client_id} for ${downstream.scope}.`,
    }
  },
})
