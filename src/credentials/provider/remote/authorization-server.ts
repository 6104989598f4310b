import { z } from 'zod'
import { urlSchema } from '#config'
import type { Egress } from '#foundation/outbound'
import { askRemote, isAbsent, pathOf, refuseRemote } from './document.ts'
import type { ProtectedResource } from './protected-resource.ts'

const texts = z.array(z.string())
const schema = z.looseObject({
  issuer: z.string(),
  authorization_endpoint: urlSchema,
  token_endpoint: urlSchema,
  registration_endpoint: urlSchema.optional(),
  revocation_endpoint: urlSchema.optional(),
  introspection_endpoint: urlSchema.optional(),
  pushed_authorization_request_endpoint: urlSchema.optional(),
  require_pushed_authorization_requests: z.boolean().optional(),
  response_types_supported: texts.optional(),
  code_challenge_methods_supported: texts.optional(),
  token_endpoint_auth_methods_supported: texts.optional(),
  token_endpoint_auth_signing_alg_values_supported: texts.optional(),
  scopes_supported: texts.optional(),
  dpop_signing_alg_values_supported: texts.optional(),
  protected_resources: texts.optional(),
  authorization_response_iss_parameter_supported: z.boolean().optional(),
  client_id_metadata_document_supported: z.boolean().optional(),
})

/** The metadata of an authorization server (RFC 8414 section 2), and where it was read. */
export type AuthorizationServer = z.output<typeof schema> & { readonly source: string }

/** Addresses at which MCP clients look for the metadata of an issuer, in their order: RFC 8414 section 3.1, then OpenID discovery. */
export const metadataPlaces = (issuer: string): string[] => {
  const url = new URL(issuer)
  const path = pathOf(url)
  return [
    `${url.origin}/.well-known/oauth-authorization-server${path}`,
    `${url.origin}/.well-known/openid-configuration${path}`,
    ...(path === '' ? [] : [`${url.origin}${path}/.well-known/openid-configuration`]),
  ]
}

/** Endpoints of metadata to which a user or Deputy goes. */
const ENDPOINTS = [
  'authorization_endpoint',
  'token_endpoint',
  'registration_endpoint',
  'revocation_endpoint',
  'introspection_endpoint',
  'pushed_authorization_request_endpoint',
] as const

export interface FindOptions {
  readonly egress: Egress
  /** Refuses an address that must not be reached. @throws DeputyError `egress_refused` */
  readonly assertReachable: (url: URL) => void
  /** Origins of Deputy itself: it cannot be its own provider. */
  readonly ownOrigins: ReadonlySet<string>
}

/**
 * Reads the metadata of the authorization server of a remote MCP server. The issuer in it must be the one asked for, character by
 * character (RFC 8414 section 3.3, threat 7).
 * @param url the MCP server, for messages
 * @throws DeputyError `remote_server_refused`, `egress_refused`
 */
export const findAuthorizationServer = async (
  url: string,
  { issuer, resource }: { readonly issuer: string; readonly resource: ProtectedResource['resource'] },
  { egress, assertReachable, ownOrigins }: FindOptions,
): Promise<AuthorizationServer> => {
  if (/[?#]/.test(issuer)) throw refuseRemote(url, `its authorization server ${issuer} is no issuer identifier`)
  assertForeign(url, [issuer], ownOrigins)
  for (const source of metadataPlaces(issuer)) {
    const answer = await askRemote(egress, source)
    if (isAbsent(answer)) continue
    if (answer.status !== 200) throw refuseRemote(url, `${source} answers ${answer.status}`)
    const { data, error } = schema.safeParse(answer.json)
    if (data === undefined)
      throw refuseRemote(
        url,
        `the metadata at ${source} lacks a usable ${error.issues[0]?.path.join('.') || 'JSON object'}`,
      )
    if (data.issuer !== issuer)
      throw refuseRemote(url, `the metadata at ${source} is of another issuer, ${data.issuer.slice(0, 100)}`)
    const endpoints = ENDPOINTS.flatMap((name) => data[name] ?? [])
    assertForeign(url, endpoints, ownOrigins)
    for (const each of endpoints) assertReachable(new URL(each))
    assertUsable(url, data, resource)
    return { ...data, source }
  }
  throw refuseRemote(url, `its authorization server ${issuer} publishes no metadata (RFC 8414, OpenID discovery)`)
}

const assertForeign = (url: string, addresses: readonly string[], ownOrigins: ReadonlySet<string>): void => {
  if (addresses.some((each) => ownOrigins.has(new URL(each).origin)))
    throw refuseRemote(
      url,
      'its authorization server is this Deputy: a server that takes its tokens is reached with a minted token, not with a grant',
    )
}

const assertUsable = (url: string, server: z.output<typeof schema>, resource: string): void => {
  if (server.response_types_supported?.includes('code') === false)
    throw refuseRemote(url, 'its authorization server has no authorization code flow')
  // MCP authorization: a client must refuse a server that does not state PKCE (threat 9).
  if (server.code_challenge_methods_supported?.includes('S256') !== true)
    throw refuseRemote(url, 'its authorization server does not state PKCE with S256')
  if (server.protected_resources?.includes(resource) === false)
    throw refuseRemote(url, `its authorization server does not list ${resource} among the resources that it serves`)
}
