import { DeputyClientError } from './error.ts'
import { Token } from './token.ts'
import type { Answer } from './wire.ts'

const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)

/** A refusal of Deputy; an answer of another form is not Deputy's. */
export const errorOf = ({ status, body, retryAfter, correlationId }: Answer): DeputyClientError => {
  const [reason, error, message] = [text(body['reason']), text(body['error']), text(body['error_description'])]
  if (error === undefined) return unexpected(status)
  return new DeputyClientError({
    reason: reason ?? error,
    error,
    message: message ?? error,
    next: text(body['next']) ?? '',
    retryAfter,
    correlationId: text(body['correlation_id']) ?? correlationId,
    connectUrl: text(body['connect_url']),
    claims: text(body['claims']),
  })
}

/** Members of an answer that the standards have a meaning for (RFC 6749 section 5.1, RFC 8693 section 2.2.1). */
const STANDARD = new Set(['access_token', 'issued_token_type', 'token_type', 'expires_in', 'scope', 'refresh_token'])

const fieldsOf = (body: Answer['body']): Record<string, string> =>
  Object.fromEntries(
    Object.entries(body).flatMap(([name, value]) =>
      STANDARD.has(name) || typeof value !== 'string' ? [] : [[name, value]],
    ),
  )

/** What answered does not speak as Deputy does. */
export const unexpected = (status: number): DeputyClientError =>
  new DeputyClientError({
    reason: 'unexpected_answer',
    error: 'server_error',
    message: `The program that answered (${status}) is not Deputy.`,
    next: 'Check the path of the socket, or the port.',
  })

/** The credential in an answer. @param requestedAt ms since the epoch; its life is counted from there. @throws DeputyClientError `unexpected_answer` */
export const tokenOf = (answer: Answer, requestedAt: number): Token => {
  const { access_token: value, token_type: type, expires_in: seconds, scope = '' } = answer.body
  if (typeof value !== 'string' || typeof type !== 'string' || typeof seconds !== 'number' || typeof scope !== 'string')
    throw unexpected(answer.status)
  return new Token(value, {
    type,
    scopes: scope === '' ? [] : scope.split(' '),
    expiresAt: requestedAt + seconds * 1000,
    warning: answer.warning,
    fields: fieldsOf(answer.body),
  })
}
