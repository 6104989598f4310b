/** What went wrong on the way to a peer, in words that tell which setting is meant. */

/** Codes of Node, OpenSSL and undici. */
const PROBLEMS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'no program listens at its address',
  ENOTFOUND: 'no address is known for its name',
  EAI_AGAIN: 'the resolver did not answer for its name',
  EHOSTUNREACH: 'no route leads to it',
  ENETUNREACH: 'no route leads to it',
  ECONNRESET: 'it closed the connection',
  EPIPE: 'it closed the connection',
  UND_ERR_SOCKET: 'it closed the connection',
  ETIMEDOUT: 'it did not answer in time',
  UND_ERR_CONNECT_TIMEOUT: 'it did not answer in time',
  UND_ERR_HEADERS_TIMEOUT: 'it did not answer in time',
  UND_ERR_BODY_TIMEOUT: 'it did not answer in time',
  CERT_HAS_EXPIRED: 'its certificate has expired',
  CERT_NOT_YET_VALID: 'its certificate is not valid yet',
  CERT_REVOKED: 'its certificate was revoked',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another name',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    'its certificate comes from an authority that is not trusted here, or it sends no intermediate certificate',
  UNABLE_TO_GET_ISSUER_CERT: 'its certificate comes from an authority that is not trusted here',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'its certificate comes from an authority that is not trusted here',
  // An authority of that name is trusted, with another key.
  CERT_SIGNATURE_FAILURE: 'its certificate comes from an authority that is not trusted here',
  SELF_SIGNED_CERT_IN_CHAIN: 'its certificate comes from an authority that is not trusted here',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate comes from an authority that is not trusted here',
  ERR_SSL_WRONG_VERSION_NUMBER: 'it does not speak TLS there: its address may have to begin with http://',
  ERR_SSL_PACKET_LENGTH_TOO_LONG: 'it does not speak TLS there: its address may have to begin with http://',
  ERR_SSL_HTTP_REQUEST: 'it does not speak TLS there: its address may have to begin with http://',
  EPROTO: 'TLS could not be agreed on',
}

/**
 * @returns a sentence's part with the code, such as "its certificate has expired (CERT_HAS_EXPIRED)"; undefined where
 * no cause has a known code
 */
export const connectionProblem = (error: unknown): string | undefined => {
  for (let each = error; each instanceof Error; each = each.cause)
    if ('code' in each && typeof each.code === 'string' && Object.hasOwn(PROBLEMS, each.code))
      return `${PROBLEMS[each.code]} (${each.code})`
  return undefined
}
