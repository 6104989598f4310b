import type { IncomingMessage } from 'node:http'
import { refuse } from '#errors'
import { Secret } from '#foundation/crypto'
import type { CallerEvidence, PeerProcess } from '#identity/workload'
import type { Form } from './form.ts'

const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'

/** `client_secret_basic`: both parts are form-encoded before they are joined (RFC 6749 section 2.3.1). @throws DeputyError `malformed_request` */
export const parseBasic = (header: string, name = 'Authorization'): { clientId: string; clientSecret: Secret } => {
  const malformed = () =>
    refuse('malformed_request', { problem: `the ${name} header is not Basic with a client id and a secret` })
  const [scheme, value, more] = header.split(' ')
  if (scheme?.toLowerCase() !== 'basic' || value === undefined || more !== undefined) throw malformed()
  const pair = Buffer.from(value, 'base64').toString('utf8')
  const at = pair.indexOf(':')
  if (at < 1) throw malformed()
  try {
    const decode = (text: string): string => decodeURIComponent(text.replaceAll('+', ' '))
    return { clientId: decode(pair.slice(0, at)), clientSecret: new Secret(decode(pair.slice(at + 1))) }
  } catch {
    throw malformed()
  }
}

/**
 * The evidence of the caller in a request, together with the kernel's. Nothing is verified here.
 * @throws DeputyError `malformed_request` when it authenticates in more than one way (RFC 6749 section 2.3)
 */
export const readEvidence = (request: IncomingMessage, form: Form, peer: PeerProcess | undefined): CallerEvidence => {
  const header = request.headers.authorization
  const basic = header === undefined ? undefined : parseBasic(header)
  const posted = form.optional('client_secret')
  const assertion = form.optional('client_assertion')
  const assertionType = form.optional('client_assertion_type')
  const named = form.optional('client_id')
  if ([basic, posted, assertion].filter((way) => way !== undefined).length > 1) {
    throw refuse('malformed_request', { problem: 'more than one way of client authentication' })
  }
  if (
    (assertion === undefined) !== (assertionType === undefined) ||
    (assertionType !== undefined && assertionType !== ASSERTION_TYPE)
  ) {
    throw refuse('malformed_request', {
      problem: `client_assertion and client_assertion_type=${ASSERTION_TYPE} go together`,
    })
  }
  if (basic !== undefined && named !== undefined && named !== basic.clientId)
    throw refuse('malformed_request', { problem: 'client_id differs from the Authorization header' })
  const clientId = basic?.clientId ?? named
  const clientSecret = basic?.clientSecret ?? (posted === undefined ? undefined : new Secret(posted))
  return {
    ...(peer === undefined ? {} : { peer }),
    ...(clientId === undefined ? {} : { clientId }),
    ...(clientSecret === undefined ? {} : { clientSecret }),
    ...(assertion === undefined ? {} : { clientAssertion: assertion }),
  }
}
