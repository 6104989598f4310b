import { z } from 'zod'
import { idSchema, urlSchema } from './values.ts'

/** A fact about a provider needs the page it was taken from. */
const sourceSchema = z.record(z.string(), urlSchema)

/** `providers/<id>.yaml`: static facts about an OAuth service, each with its source. Data, never code. */
export const providerSchema = z.strictObject({
  provider: idSchema.describe('The id; downstreams name it.'),
  name: z.string().min(1).describe('What the consent page calls it.'),
  issuer: urlSchema.optional().describe('Issuer identifier; with `discovery: true` the endpoints come from its metadata.'),
  discovery: z.boolean().default(false).describe('Whether it publishes metadata (RFC 8414, OpenID Connect Discovery).'),
  authorization_endpoint: urlSchema.optional().describe('Where the user allows access.'),
  token_endpoint: urlSchema.optional().describe('Where codes and refresh tokens are redeemed.'),
  revocation_endpoint: urlSchema.optional().describe('Where tokens are ended (RFC 7009).'),
  pushed_authorization_request_endpoint: urlSchema.optional().describe('Where requests are pushed (RFC 9126).'),
  authorization_response_iss_parameter_supported: z.boolean().default(false).describe('RFC 9207: without `iss` the response is refused.'),
  scope_separator: z.enum([' ', ',']).default(' ').describe('What stands between scopes.'),
  client_authentication: z.enum(['client_secret_basic', 'client_secret_post', 'private_key_jwt', 'tls_client_auth', 'none']).default('client_secret_basic').describe('How the client authenticates.'),
  client_assertion_audience: z.enum(['issuer', 'token_endpoint']).default('issuer').describe('`aud` of a client assertion; the token endpoint only for those that want it so (RFC 7523 section 3).'),
  mtls_token_endpoint: urlSchema.optional().describe('The token endpoint for `tls_client_auth`, where it is another one (RFC 8705 section 5).'),
  pkce: z.enum(['S256', 'unsupported']).default('S256').describe('`unsupported` only with a source that says so.'),
  authorization_parameters: z.record(z.string(), z.string()).default({}).describe('Sent along to the authorization endpoint, for example access_type: offline.'),
  offline_scope: z.string().optional().describe('Scope to add so that a refresh token comes back.'),
  refresh: z.strictObject({
    rotates: z.boolean().default(false).describe('Every refresh brings a new refresh token and ends the old one.'),
    narrows: z.boolean().default(false).describe('A refresh with `scope` brings an access token of less scope (RFC 6749 section 6).'),
  }).prefault({}).describe('How refresh tokens behave.'),
  revocation: z.enum(['rfc7009', 'none']).default('none').describe('How a grant is ended at the provider.'),
  sources: sourceSchema.default({}).describe('The page that each fact was taken from.'),
}).superRefine((provider, context) => {
  if (provider.discovery) {
    if (provider.issuer === undefined) context.addIssue({ code: 'custom', path: ['issuer'], message: 'discovery needs the issuer' })
    return
  }
  if (provider.token_endpoint === undefined) context.addIssue({ code: 'custom', path: ['token_endpoint'], message: 'needed unless `discovery: true`' })
})
export type Provider = z.output<typeof providerSchema>
