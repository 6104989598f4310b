import { refuse } from '#errors'
import type { Secret } from '#foundation/crypto'

/** Shorter than any token, longer than the word that stands for a login session (characters). */
const MIN_TOKEN_LENGTH = 16

/**
 * The user's token is for this server only (threat 18): it may stand in nothing that is sent to a service.
 * @param problem what happened, for the sentence of the refusal
 * @throws DeputyError `malformed_request`
 */
export const assertNoInboundToken = (
  subjectToken: Secret,
  sent: readonly (string | Buffer)[],
  problem: string,
): void => {
  const token = subjectToken.reveal()
  if (token.length >= MIN_TOKEN_LENGTH && sent.some((text) => text.includes(token)))
    throw refuse('malformed_request', { problem })
}
