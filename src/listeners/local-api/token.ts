import type { IncomingMessage, ServerResponse } from 'node:http'
import { refuse } from '#errors'
import { type IssuedToken, repeatable, type RepeatableRequest, type RequestOrigin } from '#flows/exchange'
import { CLIENT_CREDENTIALS_GRANT, parseForm, readFormBytes, sendJson, TOKEN_EXCHANGE_GRANT } from '#listeners/http'
import { type Endpoint, type LocalApiDependencies, originOf, traceparentOf } from './endpoint.ts'
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

type Dependencies = Pick<LocalApiDependencies, 'exchange' | 'snapshot' | 'peer'>

/** The request as one that may come again: its form and its process say all of it. */
const repeatableOf = async (
  request: IncomingMessage,
  form: Buffer,
  { peer }: Dependencies,
): Promise<RepeatableRequest | undefined> => {
  const { authorization, dpop } = request.headers
  if (authorization !== undefined || dpop !== undefined) return undefined
  try {
    return repeatable(await peer(request), form)
  } catch {
    // Asked for again below, where it refuses the request.
    return undefined
  }
}

const repeatOrigin = (request: IncomingMessage, { peer }: RepeatableRequest, correlationId: string): RequestOrigin => {
  const traceparent = traceparentOf(request)
  return { correlationId, evidence: { peer }, ...(traceparent === undefined ? {} : { traceparent }) }
}

/** `POST /oauth2/token`: token exchange (RFC 8693) and client credentials (RFC 6749 section 4.4). */
export const tokenEndpoint =
  (deps: Dependencies): Endpoint =>
  async (request, response, correlationId) => {
    const { exchange, snapshot, peer } = deps
    const bytes = await readFormBytes(request, snapshot().settings.limits.body_bytes)
    const same = await repeatableOf(request, bytes, deps)
    const repeated = same === undefined ? undefined : exchange.repeat(repeatOrigin(request, same, correlationId), same)
    if (repeated !== undefined) {
      sendToken(response, await repeated, correlationId)
      return
    }
    const form = parseForm(bytes)
    const origin = await originOf(request, form, { correlationId, peer })
    const grantType = form.required('grant_type')
    const proof = readProof(request)
    switch (grantType) {
      case TOKEN_EXCHANGE_GRANT:
        sendToken(
          response,
          await exchange.exchange(origin, { ...parseTokenExchange(form), ...proof }, same),
          correlationId,
        )
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
