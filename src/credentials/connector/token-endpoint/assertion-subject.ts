import type { AssertionSubject } from '#config'
import { refuse } from '#errors'
import type { CredentialRequest } from '../connector.ts'

/** For whom an assertion that Deputy signs speaks. @throws DeputyError `target_unknown` where it is for a user and a server asks for itself */
export const subjectOf = (
  subject: AssertionSubject,
  issuer: string,
  { principal, server, downstream }: CredentialRequest,
): string => {
  if (subject === 'issuer') return issuer
  if (typeof subject === 'object' && 'text' in subject) return subject.text
  if (principal.kind !== 'user')
    throw refuse('target_unknown', { target: downstream.downstream, server: server.server })
  return subject === 'user' ? principal.user : `${principal.user}${subject.suffix}`
}
