import type * as openid from 'openid-client'
import { refuse } from '#errors'

/** RFC 9207 section 2.4: compared as raw text; an issuer that announces `iss` and leaves it out is refused. */
export const assertIssuer = (answer: URL, server: openid.ServerMetadata): void => {
  const issuers = answer.searchParams.getAll('iss')
  const [issuer] = issuers
  if (issuers.length > 1 || (issuer !== undefined && issuer !== server.issuer))
    throw refuse('connect_invalid', { problem: 'the answer did not come from where the question went' })
  if (issuer === undefined && server.authorization_response_iss_parameter_supported === true)
    throw refuse('connect_invalid', { problem: 'the answer does not say where it comes from' })
}
