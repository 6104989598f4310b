import { z } from 'zod'
import {
  endpointSchema,
  fillIn,
  placeholdersIn,
  variableNameSchema,
  variablesSchema,
  variableValueSchema,
} from './endpoint.ts'
import { filledSignIn, type ProviderSignIn, userEndpoints, userSchema } from './provider-sign-in.ts'
import { durationSchema, idSchema, urlSchema } from './values.ts'

export { fillIn, placeholdersIn, type ProviderSignIn, variablesSchema }

/** A fact about a provider needs the page it was taken from. */
const sourceSchema = z.record(z.string(), urlSchema)

/** A header that says nothing of who asks, and cannot break the request apart. */
const headersSchema = z.record(
  z
    .string()
    .regex(
      /^(?!(?:authorization|cookie|host|content-length|content-type|transfer-encoding|connection)$)[A-Za-z][A-Za-z0-9-]{0,63}$/i,
      'a header that Deputy does not send by itself',
    ),
  z.string().regex(/^[\x20-\x7e]{1,200}$/, 'printable ASCII'),
)

/** Members of a token answer that the standard defines, or that only Deputy may have. */
const RESERVED =
  /(^|\.)(access_token|refresh_token|id_token|issued_token_type|token_type|expires_in|scope|error|error_description|error_uri|__proto__|constructor|prototype)$|token|secret|password/

/** Whether authorization requests are pushed (RFC 9126). */
export const parSchema = z
  .enum(['required', 'offered', 'never'])
  .default('offered')
  .describe(
    'Whether authorization requests are pushed (RFC 9126). offered: where its metadata or this file names the endpoint; a client with a metadata document pushes only where the metadata requires it, because a server may read documents only at its authorization endpoint. required: always. never: not at all.',
  )

/** How a provider's answers differ from the standard. */
export const answersSchema = z.strictObject({
  errors: z
    .enum(['status', 'error_member', 'ok_member'])
    .default('status')
    .describe(
      'How it reports an error: by the HTTP status; also by `error` in an answer of status 200; also by `ok: false`.',
    ),
  error_member: z
    .string()
    .regex(/^[a-z_]{1,40}$/)
    .default('error')
    .describe('The member of its errors that holds the code.'),
  error_codes: z
    .record(
      z.string(),
      z.enum(['invalid_grant', 'invalid_client', 'invalid_scope', 'temporarily_unavailable', 'slow_down']),
    )
    .default({})
    .describe('Standard error codes for its own codes; `invalid_grant` ends the grant.'),
  token_under: z
    .string()
    .regex(/^[a-z_]{1,40}$/)
    .optional()
    .describe("The member in which the answer to a code holds the user's token, where it is not the answer itself."),
  token_type: z
    .enum(['stated', 'bearer'])
    .default('stated')
    .describe('bearer: the token is a bearer token, whatever `token_type` says, and if it says nothing.'),
  scope_separator: z
    .enum([' ', ','])
    .optional()
    .describe('Separator of granted scopes; default: the separator of requested scopes.'),
  scope_of: z
    .enum(['answer', 'token'])
    .default('answer')
    .describe(
      'Where it states the scopes of a token: in `scope` of its answer, or in the token (a JWT) where the answer repeats the scopes of the original grant.',
    ),
  ignored_scopes: z
    .array(z.string())
    .default([])
    .describe(
      'Scopes that it grants without a request and that give access to nothing. The scopes of OpenID Connect (openid, profile, email, address, phone, offline_access) need not be listed.',
    ),
})

/** `providers/<id>.yaml`: static facts about an OAuth service, each with its source. Data, never code. */
export const providerSchema = z
  .strictObject({
    provider: idSchema.describe('The id; downstreams name it.'),
    name: z.string().min(1).describe('Name on the consent page.'),
    variables: z
      .record(
        variableNameSchema,
        z.strictObject({
          meaning: z.string().min(1).describe('Meaning of the variable, and where to find its value.'),
          default: variableValueSchema
            .optional()
            .describe('Default value; absent: each client of a downstream must set the variable.'),
        }),
      )
      .default({})
      .describe(
        'Variables, written as `{name}` in the issuer and in endpoints; each client of a downstream sets them under `variables`.',
      ),
    issuer: endpointSchema
      .optional()
      .describe('Issuer identifier; with `discovery: true` the endpoints come from its metadata.'),
    discovery: z
      .boolean()
      .default(false)
      .describe(
        'Whether it publishes metadata (RFC 8414, OpenID Connect Discovery); an endpoint in this file takes precedence.',
      ),
    authorization_endpoint: endpointSchema.optional().describe('URL at which the user authorizes access.'),
    token_endpoint: endpointSchema.optional().describe('URL at which codes and refresh tokens are redeemed.'),
    refresh_endpoint: endpointSchema
      .optional()
      .describe('URL at which refresh tokens are redeemed; default: the token endpoint.'),
    revocation_endpoint: endpointSchema
      .optional()
      .describe(
        'URL at which tokens are revoked; its path may contain `{client_id}` and, for `token_in_path`, `{token}`.',
      ),
    introspection_endpoint: endpointSchema
      .optional()
      .describe('Introspection endpoint (RFC 7662), for `access_token_lifetime: introspect`.'),
    pushed_authorization_request_endpoint: endpointSchema
      .optional()
      .describe('URL to which authorization requests are pushed (RFC 9126).'),
    par: parSchema,
    redirect_uri: z
      .enum(['shared', 'own'])
      .default('shared')
      .describe(
        'Address to which the provider sends the browser back. shared: /connect/callback. own: /connect/callback/ID, for a provider that is not trusted as the others are: it cannot have codes of another one sent to itself (RFC 9700 section 4.4.2.2). `deputy downstream add --mcp` writes own.',
      ),
    authorization_response_iss_parameter_supported: z
      .boolean()
      .default(false)
      .describe('RFC 9207: without `iss` the response is refused.'),
    scope_separator: z.enum([' ', ',']).default(' ').describe('Separator of requested scopes.'),
    scope_parameter: z
      .enum(['scope', 'user_scope'])
      .default('scope')
      .describe("Parameter of the authorization request that holds the user's scopes."),
    client_authentication: z
      .enum([
        'client_secret_basic',
        'client_secret_post',
        'secret_as_user',
        'private_key_jwt',
        'tls_client_auth',
        'none',
      ])
      .default('client_secret_basic')
      .describe(
        'How the client authenticates; secret_as_user: HTTP Basic with the secret as user name and no password.',
      ),
    client_assertion_audience: z
      .enum(['issuer', 'token_endpoint'])
      .default('issuer')
      .describe(
        '`aud` of a client assertion; the token endpoint only for providers that require it (RFC 7523 section 3).',
      ),
    mtls_token_endpoint: endpointSchema
      .optional()
      .describe('Token endpoint for `tls_client_auth`, where it differs (RFC 8705 section 5).'),
    dpop: z
      .enum(['never', 'offered', 'required'])
      .default('never')
      .describe(
        'Whether tokens are bound to a key of Deputy (RFC 9449), so that a stolen token is useless. required: all tokens, and an unbound token is refused. offered: tokens of downstreams with `inject.only: true`, where the provider binds them. Bound tokens are never handed out: only the proxy puts them into requests.',
      ),
    pkce: z.enum(['S256', 'unsupported']).default('S256').describe('`unsupported` only with a source that states it.'),
    authorization_parameters: z
      .record(z.string(), z.string())
      .default({})
      .describe('Additional parameters of the authorization request, for example access_type: offline.'),
    offline_scope: z.string().optional().describe('Scope that requests a refresh token.'),
    token_requests: z
      .strictObject({
        body: z.enum(['form', 'json']).default('form').describe('Encoding of the parameters in the body.'),
        headers: headersSchema.default({}).describe('Additional headers, for example the version of its API.'),
        client_credentials_grant: z
          .string()
          .regex(/^[\x21-\x7e]{1,100}$/)
          .default('client_credentials')
          .describe('`grant_type` of a client that requests a token for itself.'),
      })
      .prefault({})
      .describe('Requests to the token, revocation and introspection endpoints.'),
    answers: answersSchema.prefault({}).describe('How its answers differ from the standard.'),
    access_token_lifetime: z
      .union([z.enum(['never', 'introspect']), durationSchema])
      .default(3_600_000)
      .describe(
        'Lifetime of an access token where the answer does not state it. never: until it is revoked. introspect: as the introspection endpoint states.',
      ),
    response_fields: z
      .array(
        z
          .string()
          .regex(/^[a-z][a-z0-9_]{0,40}(\.[a-z][a-z0-9_]{0,40})?$/)
          .refine((name) => !RESERVED.test(name), 'this one is not told to servers'),
      )
      .default([])
      .describe(
        "Members of its answer that servers need in addition to the token, such as instance_url; Deputy's answer includes them.",
      ),
    refresh: z
      .strictObject({
        rotates: z.boolean().default(false).describe('Every refresh brings a new refresh token and ends the old one.'),
        narrows: z
          .boolean()
          .default(false)
          .describe('A refresh with `scope` brings an access token of less scope (RFC 6749 section 6).'),
        leeway: durationSchema
          .default(0)
          .describe(
            'How long a replaced refresh token can be used again; within this time a lost answer is requested again at once.',
          ),
        ends_access_token: z
          .boolean()
          .default(false)
          .describe('A refresh also ends the old access token, so Deputy does not refresh ahead of time.'),
        redirect_uri: z
          .boolean()
          .default(false)
          .describe('A refresh has to name the redirect URI of the authorization request.'),
      })
      .prefault({})
      .describe('How refresh tokens behave.'),
    revocation: z
      .enum(['rfc7009', 'rfc7009_refresh', 'token_alone', 'bearer', 'delete_json', 'token_in_path', 'none'])
      .default('none')
      .describe(
        'How a grant is ended at the provider: by RFC 7009; by RFC 7009 for the refresh token only; with the token in a form, without client authentication; by POST with the access token as bearer; by DELETE with `{"access_token": …}` and HTTP Basic; by DELETE with the refresh token in the path; not at all.',
      ),
    revocation_ends: z
      .enum(['token', 'session', 'client'])
      .optional()
      .describe(
        "What ends at the provider with a grant. token: its tokens. session: everything from the user's session there. client: everything that the user granted to the client. With session and client, a grant is ended at the provider once no other grant of the user is in use. Default: client for `token_alone` and `bearer`, else token.",
      ),
    sign_in: userSchema
      .optional()
      .describe(
        'How the provider says who has signed in, for `sign_in.provider` of tenants whose users have accounts there.',
      ),
    sources: sourceSchema.default({}).describe('The source of each fact.'),
  })
  .superRefine((provider, context) => {
    const missing = (path: string, message: string): void => {
      context.addIssue({ code: 'custom', path: [path], message })
    }
    for (const endpoint of userEndpoints(provider.sign_in)) {
      const unknown = placeholdersIn(endpoint).find((each) => !Object.hasOwn(provider.variables, each))
      if (unknown !== undefined) missing('sign_in', `{${unknown}} is not among \`variables\``)
    }
    if (
      provider.sign_in !== undefined &&
      provider.authorization_endpoint === undefined &&
      provider.issuer === undefined
    )
      missing('authorization_endpoint', 'needed for `sign_in`')
    if (provider.sign_in !== undefined && provider.dpop === 'required')
      missing('dpop', 'with `sign_in` its tokens are not bound')
    for (const name of ENDPOINTS) {
      const own =
        name !== 'revocation_endpoint'
          ? []
          : provider.revocation === 'token_in_path'
            ? ['client_id', 'token']
            : ['client_id']
      const unknown = placeholdersIn(provider[name] ?? '').find(
        (each) => !Object.hasOwn(provider.variables, each) && !own.includes(each),
      )
      if (unknown !== undefined) missing(name, `{${unknown}} is not among \`variables\``)
    }
    if (provider.refresh.narrows && provider.refresh.ends_access_token)
      missing('refresh', "a refresh that ends the grant's access token cannot be used to narrow")
    if (provider.dpop !== 'never' && provider.answers.token_type === 'bearer')
      missing('dpop', 'with `answers.token_type: bearer` it is unknown whether a token is bound')
    if (provider.dpop !== 'never' && provider.revocation === 'bearer')
      missing('dpop', 'with `revocation: bearer` a bound token could not be ended')
    if (provider.revocation === 'token_in_path' && !provider.revocation_endpoint?.includes('{token}'))
      missing('revocation_endpoint', 'with `token_in_path` it has to hold {token}')
    if (provider.discovery) {
      if (provider.issuer === undefined) missing('issuer', 'discovery needs the issuer')
      return
    }
    if (provider.revocation !== 'none' && provider.revocation_endpoint === undefined)
      missing('revocation_endpoint', 'needed for the way of revocation that the file names')
    if (provider.access_token_lifetime === 'introspect' && provider.introspection_endpoint === undefined)
      missing('introspection_endpoint', 'needed for `access_token_lifetime: introspect`')
    if (provider.token_endpoint === undefined) missing('token_endpoint', 'needed unless `discovery: true`')
  })
export type Provider = z.output<typeof providerSchema>

/** Facts that are addresses, in which `{name}` may stand. */
export const ENDPOINTS = [
  'issuer',
  'authorization_endpoint',
  'token_endpoint',
  'refresh_endpoint',
  'revocation_endpoint',
  'introspection_endpoint',
  'pushed_authorization_request_endpoint',
  'mtls_token_endpoint',
] as const

/** Variables that a client has to give values to. */
export const neededVariables = ({ variables }: Provider): string[] =>
  Object.entries(variables)
    .filter(([, each]) => each.default === undefined)
    .map(([name]) => name)

/** The facts for one client: every `{name}` but those of a single token has its value. */
export const providerFor = (provider: Provider, given: Readonly<Record<string, string>>): Provider => {
  const values = {
    ...Object.fromEntries(
      Object.entries(provider.variables).flatMap(([name, each]) =>
        each.default === undefined ? [] : [[name, each.default]],
      ),
    ),
    ...given,
  }
  return {
    ...provider,
    ...(provider.sign_in === undefined ? {} : { sign_in: filledSignIn(provider.sign_in, values) }),
    ...Object.fromEntries(
      ENDPOINTS.flatMap((name) => (provider[name] === undefined ? [] : [[name, fillIn(provider[name], values)]])),
    ),
  }
}

/** What ends at a provider with one grant. */
export const revocationEnds = ({ revocation, revocation_ends: ends }: Provider): 'token' | 'session' | 'client' =>
  ends ?? (revocation === 'token_alone' || revocation === 'bearer' ? 'client' : 'token')
