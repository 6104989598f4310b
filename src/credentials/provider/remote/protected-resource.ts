import { z } from 'zod'
import { urlSchema } from '#config'
import type { Egress } from '#foundation/outbound'
import { askRemote, isAbsent, pathOf, refuseRemote } from './document.ts'

/** What a remote MCP server says about itself. */
export interface ProtectedResource {
  /** Its resource identifier, exactly as it states it: `resource` of requests, and `aud` of tokens. */
  readonly resource: string
  /** Issuers of its authorization servers, in its order. */
  readonly authorizationServers: readonly [string, ...string[]]
  readonly scopes: readonly string[]
  readonly dpop: 'never' | 'offered' | 'required'
  /** Where its metadata was read. */
  readonly source: string
}

const MAX_LISTED = 200
const schema = z.looseObject({
  resource: urlSchema,
  authorization_servers: z.tuple([urlSchema]).rest(urlSchema),
  scopes_supported: z.array(z.string()).max(MAX_LISTED).optional(),
  bearer_methods_supported: z.array(z.string()).optional(),
  dpop_signing_alg_values_supported: z.array(z.string()).optional(),
  dpop_bound_access_tokens_required: z.boolean().optional(),
})

/** The first request of an MCP client, without a token. */
const INITIALIZE = JSON.stringify({
  jsonrpc: '2.0',
  id: 1,
  method: 'initialize',
  params: { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'deputy', version: '1' } },
})

/** Parameters of a `WWW-Authenticate` challenge that asks for a token (RFC 6750 section 3, RFC 9728 section 5.1). */
const parameterIn = (challenge: string, name: string): string | undefined => {
  const found = new RegExp(`(?:^|[\\s,])${name}\\s*=\\s*(?:"([^"]*)"|([^\\s,"]+))`, 'i').exec(challenge)
  return found?.[1] ?? found?.[2]
}

/**
 * Whether a resource identifier stands for a URL: the same origin, and a path that is the URL's or above it. A server may name itself
 * by its origin while it answers below it; one of another origin would receive tokens that were meant for this one (RFC 9728
 * section 3.3).
 */
export const isResourceOf = (resource: string, url: string): boolean => {
  const [stated, asked] = [new URL(resource), new URL(url)]
  const below = (path: string): string => (path.endsWith('/') ? path : `${path}/`)
  return (
    stated.origin === asked.origin &&
    below(asked.pathname).startsWith(below(stated.pathname)) &&
    (stated.search === '' || stated.search === asked.search)
  )
}

/**
 * Asks an MCP server for its protected resource metadata: where its challenge says (RFC 9728 section 5.1), else at the well-known
 * address for its path and at the root, as MCP authorization describes.
 * @throws DeputyError `remote_server_refused`, `egress_refused`
 */
export const findProtectedResource = async (
  url: string,
  { egress }: { readonly egress: Egress },
): Promise<ProtectedResource> => {
  const at = new URL(url)
  const first = await askRemote(egress, url, {
    method: 'POST',
    headers: { accept: 'application/json, text/event-stream', 'content-type': 'application/json' },
    body: INITIALIZE,
  })
  const challenge = first.status === 401 ? (first.headers.get('www-authenticate') ?? '') : ''
  const named = parameterIn(challenge, 'resource_metadata')
  if (named !== undefined && URL.parse(named)?.origin !== at.origin)
    throw refuseRemote(url, `it names metadata at another origin (${named.slice(0, 100)})`)
  const wellKnown = `${at.origin}/.well-known/oauth-protected-resource`
  const places = new Set([...(named === undefined ? [] : [named]), `${wellKnown}${pathOf(at)}${at.search}`, wellKnown])
  for (const source of places) {
    const answer = await askRemote(egress, source)
    if (isAbsent(answer)) continue
    if (answer.status !== 200) throw refuseRemote(url, `${source} answers ${answer.status}`)
    return resourceIn(answer.json, { url, source, challenged: parameterIn(challenge, 'scope') })
  }
  throw refuseRemote(
    url,
    first.status === 401
      ? 'it asks for a token and publishes no protected resource metadata (RFC 9728)'
      : `it answers ${first.status} without a token, and publishes no protected resource metadata (RFC 9728)`,
  )
}

/** @param challenged scopes of the challenge, for a server whose metadata lists none */
const resourceIn = (
  json: unknown,
  {
    url,
    source,
    challenged,
  }: { readonly url: string; readonly source: string; readonly challenged: string | undefined },
): ProtectedResource => {
  const { data, error } = schema.safeParse(json)
  if (data === undefined)
    throw refuseRemote(
      url,
      `its metadata at ${source} lacks a usable ${error.issues[0]?.path.join('.') || 'JSON object'}`,
    )
  if (!isResourceOf(data.resource, url))
    throw refuseRemote(url, `its metadata is about another resource, ${data.resource.slice(0, 100)}`)
  if (data.bearer_methods_supported?.includes('header') === false)
    throw refuseRemote(url, 'it does not take tokens in the header Authorization')
  return {
    resource: data.resource,
    authorizationServers: data.authorization_servers,
    scopes: [...new Set(data.scopes_supported ?? challenged?.split(' ').filter((scope) => scope !== '') ?? [])],
    dpop:
      data.dpop_bound_access_tokens_required === true
        ? 'required'
        : data.dpop_signing_alg_values_supported?.includes('ES256') === true
          ? 'offered'
          : 'never',
    source,
  }
}
