/** A tool of the server as its file in Deputy has it. */
export interface RegisteredTool {
  /** The service that it uses; absent: any, or none. */
  readonly downstream: string | undefined
  /** What it needs there. */
  readonly scopes: readonly string[]
  /** Scopes that the user's own token must have. */
  readonly requires: readonly string[]
}

/** The server's registration at Deputy. */
export interface Registration {
  readonly server: string
  readonly name: string
  /** The `aud` of the tokens that are for this server. */
  readonly resource: string
  /** Issuers of the tenants that it serves. */
  readonly authorizationServers: readonly string[]
  /** What every use of it requires of a user's token (`basic_scopes` of its file). */
  readonly scopesSupported: readonly string[]
  /** Algorithms of DPoP proofs; empty where the server takes no tokens that are bound to a key (`checks_possession` of its file). */
  readonly proofAlgorithms: readonly string[]
  readonly tools: ReadonlyMap<string, RegisteredTool>
}

/** How a client sent the token (RFC 9449 section 7.1): Deputy then checks that it has the key that the token is bound to. */
export interface Presentation {
  /** The scheme of the Authorization header. */
  readonly scheme: 'Bearer' | 'DPoP'
  /** The DPoP header. */
  readonly proof?: string | undefined
  readonly method: string
  /** Under which URLs the server may have been called. */
  readonly urls: readonly string[]
}

/** The token does not count. Why is in Deputy's audit log: `deputy explain` with the correlation id. */
export interface Inactive {
  readonly active: false
  /** What the client can cure: `invalid_dpop_proof`, or `use_dpop_nonce`. */
  readonly error?: string | undefined
  /** The nonce that the next proof has to carry. */
  readonly nonce?: string | undefined
  readonly correlationId: string | undefined
}

/** Whose token the server was sent. */
export interface Introspected {
  readonly active: true
  /** Whether `user` is an agent that acts for itself, which may have the same id as a user. */
  readonly isAgent: boolean
  readonly user: string
  readonly tenant: string
  readonly issuer: string
  /** Scopes of the token. */
  readonly scopes: readonly string[]
  readonly tokenType: 'Bearer' | 'DPoP'
  /** The client that the user uses, if the token says so. */
  readonly clientId: string | undefined
  /** ms since the epoch. */
  readonly expiresAt: number
  /** Tools of the server's file, with whether policy lets this user call them now, and why not. */
  readonly tools: ReadonlyMap<string, RegisteredTool & { readonly allowed: boolean; readonly denied?: string }>
  /** For `deputy explain`, which also names the rule that hides a tool. */
  readonly correlationId: string | undefined
}

type Body = Readonly<Record<string, unknown>>

const isBody = (value: unknown): value is Body => typeof value === 'object' && value !== null && !Array.isArray(value)
const isText = (value: unknown): value is string => typeof value === 'string'
const texts = (value: unknown): string[] => (Array.isArray(value) ? value.filter(isText) : [])

const toolsOf = (value: unknown): [string, Body][] =>
  isBody(value) ? Object.entries(value).filter((entry): entry is [string, Body] => isBody(entry[1])) : []
const toolOf = ({ downstream, scopes, requires }: Body): RegisteredTool => ({
  downstream: isText(downstream) ? downstream : undefined,
  scopes: texts(scopes),
  requires: texts(requires),
})

/** The answer of `/server`; undefined when it is none. */
export const parseRegistration = ({
  server,
  name,
  resource,
  authorization_servers: issuers,
  scopes_supported: scopes,
  dpop_signing_alg_values_supported: algorithms,
  tools,
}: Body): Registration | undefined =>
  !isText(server) || !isText(name) || !isText(resource)
    ? undefined
    : {
        server,
        name,
        resource,
        authorizationServers: texts(issuers),
        scopesSupported: texts(scopes),
        proofAlgorithms: texts(algorithms),
        tools: new Map(toolsOf(tools).map(([tool, body]) => [tool, toolOf(body)])),
      }

/** The inactive answer of `/tools`. */
export const parseInactive = ({ error, dpop_nonce: nonce }: Body, correlationId: string | undefined): Inactive => ({
  active: false,
  correlationId,
  ...(isText(error) ? { error } : {}),
  ...(isText(nonce) ? { nonce } : {}),
})

/** The active answer of `/tools`; undefined when it is none. */
export const parseIntrospected = (
  { sub, tenant, iss, scope = '', client_id: clientId, token_type: tokenType, exp, tools, agent }: Body,
  correlationId: string | undefined,
): Introspected | undefined =>
  !isText(sub) || !isText(tenant) || !isText(iss) || !isText(scope) || typeof exp !== 'number'
    ? undefined
    : {
        active: true,
        isAgent: agent === true,
        user: sub,
        tenant,
        issuer: iss,
        scopes: scope === '' ? [] : scope.split(' '),
        tokenType: tokenType === 'DPoP' ? 'DPoP' : 'Bearer',
        clientId: isText(clientId) ? clientId : undefined,
        expiresAt: exp * 1000,
        tools: new Map(
          toolsOf(tools).map(([tool, body]) => [
            tool,
            {
              ...toolOf(body),
              allowed: body['allowed'] === true,
              ...(isText(body['denied']) ? { denied: body['denied'] } : {}),
            },
          ]),
        ),
        correlationId,
      }
