import type { Connector } from '../connector.ts'
import type { RequestToken } from './token-request.ts'

/** `client_credentials`: a token of Deputy's own client (RFC 6749 section 4.4). It carries no user: who may have it is policy's to say. */
export const createClientCredentialsConnector = ({ requestToken }: { requestToken: RequestToken }): Connector => ({
  kind: 'client_credentials',
  obtain: (request) =>
    requestToken(request, {
      grantType: ({ provider }) => provider.token_requests.client_credentials_grant,
      parameters: () => ({}),
      operation: 'client credentials request',
    }),
})
