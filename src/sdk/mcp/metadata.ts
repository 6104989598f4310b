import type { Registration } from '../registration.ts'

const WELL_KNOWN = '/.well-known/oauth-protected-resource'

/** Where things are, by the server's resource URI. */
export interface Places {
  /** Path of the MCP endpoint. */
  readonly endpoint: string
  /** Path of the metadata (RFC 9728 section 3.1): the well-known part goes between host and path. */
  readonly metadata: string
  /** The same as a URL, for `WWW-Authenticate`. */
  readonly metadataUrl: string
}

/** @throws TypeError when the resource is not at an http(s) URL */
export const placesOf = (resource: string): Places => {
  const url = new URL(resource)
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw new TypeError(
      `The resource of this server is ${resource}: over HTTP it has to be the URL of the MCP endpoint.`,
    )
  const metadata = `${WELL_KNOWN}${url.pathname === '/' ? '' : url.pathname}`
  return { endpoint: url.pathname, metadata, metadataUrl: `${url.origin}${metadata}${url.search}` }
}

/** Protected resource metadata (RFC 9728 section 2). */
export const protectedResource = ({
  resource,
  name,
  authorizationServers,
  scopesSupported,
  proofAlgorithms,
}: Registration) => ({
  resource,
  resource_name: name,
  authorization_servers: authorizationServers,
  bearer_methods_supported: ['header'],
  ...(scopesSupported.length === 0 ? {} : { scopes_supported: scopesSupported }),
  ...(proofAlgorithms.length === 0 ? {} : { dpop_signing_alg_values_supported: proofAlgorithms }),
})

/** Error codes of RFC 6750 section 3.1 and RFC 9449 section 7.1. */
export type TokenError =
  'invalid_request' | 'invalid_token' | 'insufficient_scope' | 'invalid_dpop_proof' | 'use_dpop_nonce'

/** The schemes under which a server takes tokens. */
export type Scheme = 'Bearer' | 'DPoP'

/** What a challenge says besides its scheme. */
export interface ChallengeFacts {
  readonly error: TokenError | undefined
  readonly description: string | undefined
  readonly scopes: readonly string[]
  readonly metadataUrl: string
  /** Of DPoP proofs; empty where the server takes none. */
  readonly algorithms: readonly string[]
}

const challenge = (scheme: Scheme, facts: ChallengeFacts): string => {
  const parameters = [
    ...(facts.error === undefined ? [] : [`error="${facts.error}"`]),
    ...(facts.description === undefined
      ? []
      : [`error_description="${facts.description.replace(/[^\x20-\x21\x23-\x5b\x5d-\x7e]/g, '?')}"`]),
    ...(facts.scopes.length === 0 ? [] : [`scope="${facts.scopes.join(' ')}"`]),
    ...(scheme === 'DPoP' ? [`algs="${facts.algorithms.join(' ')}"`] : []),
    `resource_metadata="${facts.metadataUrl}"`,
  ]
  return `${scheme} ${parameters.join(', ')}`
}

/**
 * The values of `WWW-Authenticate` (RFC 6750 section 3, RFC 9728 section 5.1, RFC 9449 section 7.1). The scheme of the request
 * gets the error. A server that takes bound tokens shows that scheme as well. Scopes and URLs hold no quotes.
 */
export const challenges = (scheme: Scheme | undefined, facts: ChallengeFacts): string[] => {
  if (scheme === 'DPoP') return [challenge('DPoP', facts)]
  const bound = scheme === undefined ? facts : { ...facts, error: undefined, description: undefined }
  return [challenge('Bearer', facts), ...(facts.algorithms.length === 0 ? [] : [challenge('DPoP', bound)])]
}
