import type { IncomingMessage, ServerResponse } from 'node:http'
import { asDeputyError } from '#errors'
import type { IssuedToken } from '#flows/exchange'
import type { Logger } from '#foundation/telemetry'
import { type Form, readForm, sendError, sendJson } from '#listeners/http'
import { parseScopes } from '#listeners/local-api'

/** Bytes of a token request. */
export const MAX_TOKEN_REQUEST = 65_536

export interface FailureDependencies {
  readonly correlationId: () => string
  readonly logger: Logger
}

/** Answers a public token request that is refused, or failed inside Deputy. */
export type AnswerFailure = (response: ServerResponse, thrown: unknown, correlationId?: string) => void

export const createAnswerFailure =
  (deps: FailureDependencies): AnswerFailure =>
  (response, thrown, correlationId = deps.correlationId()) => {
    const error = asDeputyError(thrown)
    if (error.code === 'internal')
      deps.logger.error({ err: error.cause, correlation_id: correlationId }, 'a request failed inside Deputy')
    if (response.headersSent) response.destroy()
    else sendError(response, error, correlationId)
  }

/** What a token request of any kind names. */
export interface TokenRequestParts {
  readonly correlationId: string
  readonly scopes?: readonly string[]
  readonly resource?: string
}

const partsOf = (form: Form, correlationId: string): TokenRequestParts => {
  const scopes = parseScopes(form.optional('scope'))
  const resource = form.optional('resource')
  return {
    correlationId,
    ...(scopes === undefined ? {} : { scopes }),
    ...(resource === undefined ? {} : { resource }),
  }
}

/**
 * The token endpoint of one of Deputy's own lines: it reads the form, and answers as RFC 6749 section 5.1 has it.
 * @param issue its `partsOf` reads what the form names, and throws where that is malformed
 */
export const ownTokenEndpoint = (
  deps: FailureDependencies,
  issue: (request: IncomingMessage, form: Form, partsOf: () => TokenRequestParts) => Promise<IssuedToken>,
) => {
  const fail = createAnswerFailure(deps)
  const answer = async (request: IncomingMessage, response: ServerResponse, correlationId: string): Promise<void> => {
    const form = await readForm(request, MAX_TOKEN_REQUEST)
    const issued = await issue(request, form, () => partsOf(form, correlationId))
    sendJson(
      response,
      200,
      {
        access_token: issued.token.reveal(),
        token_type: issued.tokenType,
        expires_in: issued.expiresIn,
        ...(issued.scopes.length === 0 ? {} : { scope: issued.scopes.join(' ') }),
        ...(issued.authorizationDetails === undefined ? {} : { authorization_details: issued.authorizationDetails }),
      },
      { 'X-Correlation-Id': correlationId },
    )
  }
  return (request: IncomingMessage, response: ServerResponse): void => {
    const correlationId = deps.correlationId()
    answer(request, response, correlationId).catch((thrown: unknown) => {
      fail(response, thrown, correlationId)
    })
  }
}
