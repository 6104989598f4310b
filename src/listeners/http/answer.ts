import type { ServerResponse } from 'node:http'
import type { DeputyError } from '#errors'
import { afterBody } from './body.ts'

const CORRELATION = 'X-Correlation-Id'

/** Sends JSON that must not be stored (RFC 6749 section 5.1). */
export const sendJson = (
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): void => {
  const text = JSON.stringify(body)
  // As text, because node sends head and text in one write then; bytes would take two.
  response.writeHead(status, {
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(text),
    'Cache-Control': 'no-store',
    ...headers,
  })
  response.end(text)
}

/** RFC 6749 section 5.2 allows printable ASCII without quote and backslash in `error_description`. */
export const describable = (text: string): string => text.replace(/["\\]/g, "'").replace(/[^\x20-\x7e]/g, '?')

/**
 * An error of the taxonomy as an OAuth error response (RFC 6749 section 5.2), with what the standard leaves room for:
 * the taxonomy's own code, the next step, the correlation id for `deputy explain`, and the connect URL when the user
 * has to act. Causes and stacks stay inside.
 */
export const errorAnswer = (
  error: DeputyError,
  correlationId: string,
): { status: number; body: Readonly<Record<string, string>>; headers: Readonly<Record<string, string>> } => {
  const { status, oauth } = error.kind
  const retryAfter = error.retryAfter
  const { connect_url: connectUrl, nonce, claims, scopes } = error.facts
  return {
    status,
    body: {
      error: oauth,
      error_description: describable(error.message),
      reason: error.code,
      next: describable(
        error.code === 'internal'
          ? error.next.replace(/: deputy explain .*$/, `: deputy explain ${correlationId}`)
          : error.next,
      ),
      correlation_id: correlationId,
      ...(connectUrl === undefined ? {} : { connect_url: String(connectUrl) }),
      // https://learn.microsoft.com/en-us/entra/identity-platform/claims-challenge
      ...(error.code === 'step_up_required' && claims !== undefined ? { claims: String(claims) } : {}),
      // RFC 6750 section 3: what the next token needs.
      ...(error.code === 'insufficient_scope' ? { scope: String(scopes) } : {}),
    },
    headers: {
      [CORRELATION]: correlationId,
      // RFC 9449 section 8.
      ...(error.code === 'proof_nonce_needed' ? { 'DPoP-Nonce': String(nonce) } : {}),
      ...(retryAfter === undefined ? {} : { 'Retry-After': String(retryAfter) }),
      // RFC 9110 section 15.5.16.
      ...(error.code === 'unsupported_content_encoding' ? { 'Accept-Encoding': 'identity' } : {}),
      // RFC 6749 section 5.2 and RFC 9110 section 15.5.2: a 401 names a way to authenticate.
      ...(status === 401 ? { 'WWW-Authenticate': 'Basic realm="deputy", charset="UTF-8"' } : {}),
    },
  }
}

/**
 * Sends an error. It leaves when the request has been received whole, wherever it went wrong.
 * @param description instead of the error's sentence
 */
export const sendError = (
  response: ServerResponse,
  error: DeputyError,
  correlationId: string,
  description?: string,
): void => {
  if (response.headersSent) {
    response.destroy()
    return
  }
  const { status, body, headers } = errorAnswer(error, correlationId)
  const shown = description === undefined ? body : { ...body, error_description: describable(description) }
  afterBody(response.req, () => {
    sendJson(response, status, shown, headers)
  })
}
