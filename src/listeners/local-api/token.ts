import type { IncomingMessage, ServerResponse } from 'node:http'
import { refuse } from '#errors'
import type { IssuedToken } from '#flows/exchange'
import { CLIENT_CREDENTIALS_GRANT, sendJson, TOKEN_EXCHANGE_GRANT } from '#listeners/http'
import { type Endpoint, formOf, type LocalApiDependencies, originOf } from './endpoint.ts'
import { parseTokenExchange, parseTokenRequest } from './token-request.ts'

/** The one DPoP header of a request (RFC 9449 section 4.3). @throws DeputyError `proof_invalid` when there are more */
export const readProof = ({ rawHeaders }: Pick<IncomingMessage, 'rawHeaders'>): { proof?: string } => {
  const proofs = rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === 'dpop')
  const [proof, another] = proofs
  if (another !== undefined) throw refuse('proof_invalid', { problem: 'there is more than one' })
  return proof === undefined ? {} : { proof }
}

const sendToken = (response: ServerResponse, issued: IssuedToken, correlationId: string): void => {
  sendJson(
    response,
    200,
    {
      ...issued.fields,
      access_token: issued.token.reveal(),
      issued_token_type: issued.issuedTokenType,
      token_type: issued.tokenType,
      expires_in: issued.expiresIn,
      ...(issued.scopes.length === 0 ? {} : { scope: issued.scopes.join(' ') }),
    },
    {
      'X-Correlation-Id': correlationId,
      ...(issued.warning === undefined ? {} : { Warning: `299 deputy "${issued.warning.replace(/["\\\r\n]/g, "'")}"` }),
    },
  )
}

/** `POST /oauth2/token`: token exchange (RFC 8693) and client credentials (RFC 6749 section 4.4). */
export const tokenEndpoint =
  ({ exchange, snapshot, peer }: Pick<LocalApiDependencies, 'exchange' | 'snapshot' | 'peer'>): Endpoint =>
  async (request, response, correlationId) => {
    const form = await formOf(request, { snapshot })
    const origin = await originOf(request, form, { correlationId, peer })
    const grantType = form.required('grant_type')
    const proof = readProof(request)
    switch (grantType) {
      case TOKEN_EXCHANGE_GRANT:
        sendToken(response, await exchange.exchange(origin, { ...parseTokenExchange(form), ...proof }), correlationId)
        return
      case CLIENT_CREDENTIALS_GRANT:
        sendToken(
          response,
          await exchange.clientCredentials(origin, { ...parseTokenRequest(form), ...proof }),
          correlationId,
        )
        return
      default:
        throw refuse('unsupported_grant_type', { grant_type: grantType.slice(0, 100) })
    }
  }
