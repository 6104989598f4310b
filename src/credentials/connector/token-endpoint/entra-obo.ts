import type { Connector } from '../connector.ts'
import type { RequestToken } from './token-request.ts'
import { subjectTokenOf } from './token-exchange.ts'

/**
 * `entra_obo`: Microsoft Entra ID's on-behalf-of flow
 * (https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-on-behalf-of-flow): the user's token as the assertion of a
 * JWT bearer grant. Its `aud` has to be the client that asks, and the scopes are those of one service.
 */
export const createEntraOnBehalfOfConnector = ({ requestToken }: { requestToken: RequestToken }): Connector => ({
  kind: 'entra_obo',
  async obtain(request) {
    const { token } = subjectTokenOf(request)
    return requestToken(request, {
      grantType: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
      operation: 'on-behalf-of request',
      ofUser: true,
      parameters: () => ({ assertion: token.reveal(), requested_token_use: 'on_behalf_of' }),
    })
  },
})
