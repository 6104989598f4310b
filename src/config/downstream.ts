import { z } from 'zod'
import { awsSts, azure, checkAwsSts, gcpSts, githubApp, ofTenant } from './cloud-credentials.ts'
import { injectSchema } from './inject.ts'
import { variablesSchema, type Provider } from './provider.ts'
import { clientTlsSchema } from './tls.ts'
import {
  lifetimeSchema,
  idSchema,
  resourceSchema,
  scopeSchema,
  secretReferenceSchema,
  tenantsSchema,
  tokenTypeSchema,
} from './values.ts'
import { dynamic, engineRoleSchema } from './vault-engines.ts'

const clientSchema = z.strictObject({
  client_id: z
    .string()
    .min(1)
    .describe(
      'Client id at the provider. With `<connect_url>/clients/NAME`, where NAME is your choice, the client needs no registration: Deputy publishes its metadata at that URL (Client ID Metadata Document).',
    ),
  client_secret: secretReferenceSchema
    .optional()
    .describe('Absent for a public client, and for a client that authenticates with a key.'),
  private_key: secretReferenceSchema
    .optional()
    .describe(
      'Private key of the client, as JWK or PEM (PKCS #8): for `private_key_jwt`, and together with `certificate` for `tls_client_auth`.',
    ),
  variables: variablesSchema
    .default({})
    .describe("Values for `{name}` in the provider's endpoints, for example `tenant: contoso.example`."),
  certificate: secretReferenceSchema
    .optional()
    .describe(
      'Certificate of the client with its chain, PEM: presented for `tls_client_auth`; named in assertions (`x5t#S256`) for `private_key_jwt`.',
    ),
})
export type OAuthClient = z.output<typeof clientSchema>

const common = {
  downstream: idSchema.describe('The id; `audience` in a token request names it.'),
  name: z.string().optional().describe('Name on the consent page.'),
  environment: idSchema.optional().describe('Only daemons of this environment see it; absent: all daemons.'),
  enabled: z.boolean().default(true).describe('False: Deputy issues no credentials for it.'),
  tenants: tenantsSchema.default('*').describe('The tenants that may use it.'),
  resource: resourceSchema
    .optional()
    .describe('The URI that a token request may name as `resource`, and the audience of issued tokens.'),
  scopes: z
    .record(scopeSchema, z.string())
    .default({})
    .describe('Every scope of the service, with a description for the consent page.'),
  lifetime: lifetimeSchema.optional().describe('Longest lifetime of an issued credential.'),
  inject: injectSchema
    .optional()
    .describe('How the proxy puts the credential into requests; absent: the proxy does not (docs/proxy.md).'),
}

/** How Deputy is known to the authorization server that a token comes from. */
const provided = {
  provider: idSchema.describe('Name of the provider file.'),
  client: clientSchema.describe("Deputy's client at the provider."),
  clients: z.record(idSchema, clientSchema).default({}).describe('Clients by tenant.'),
  token_audiences: z
    .array(z.string().min(1))
    .default([])
    .describe(
      "Values of `aud` that its tokens may have in addition to `resource` and `audience`, such as the service's client id at the provider. A JWT of the provider that names none of these values is refused; if none is configured, `aud` is not checked.",
    ),
  over_scoped: z
    .enum(['refuse', 'mark'])
    .default('refuse')
    .describe(
      'What to do with a token that has more scopes than requested: refuse it, or issue it and name all of them in `scope`.',
    ),
}

/** Parameters of a token request in addition to the grant. */
const requested = {
  audience: z
    .string()
    .min(1)
    .optional()
    .describe('`audience` of the request, where the provider requires one; `resource` is always sent.'),
  scope_prefix: z
    .string()
    .regex(/^[\x21\x23-\x5B\x5D-\x7E]*$/)
    .default('')
    .describe('Prefix of each scope at the provider, for example `https://graph.microsoft.com/`.'),
  parameters: z.record(z.string(), z.string()).default({}).describe('Additional parameters of the request.'),
}

const only = z
  .boolean()
  .default(false)
  .describe('True: Deputy uses the login only at the socket and never hands it out.')

/** Further subjects of an assertion that Deputy signs, in addition to the user and its issuer. */
const others = z.strictObject({ text: z.string().min(1) }).or(z.strictObject({ suffix: z.string().min(1) }))
export type AssertionSubject = z.output<typeof others> | 'user' | 'issuer'

/** Where a secret of the tenant is kept. */
const kept = {
  backend: idSchema.default('embedded').describe('The backend that stores it.'),
  secret: idSchema.describe('Name of the secret; each tenant has its own.'),
}

/** Where the service is, for those who reach it through Deputy's own sockets and never see the credential. */
const databases = {
  postgres: z
    .strictObject({
      host: z.string().min(1).describe('Host name or address.'),
      port: z.int().min(1).max(65_535).default(5432).describe('Port.'),
      database: z.string().min(1).max(63).describe('Name of the database there.'),
      tls: clientTlsSchema,
      only,
    })
    .optional()
    .describe(
      'The PostgreSQL server that `listen.postgres` connects to; the credential is a login (JSON with username and password).',
    ),
  redis: z
    .strictObject({
      host: z.string().min(1).describe('Host name or address.'),
      port: z.int().min(1).max(65_535).default(6379).describe('Port.'),
      tls: clientTlsSchema,
      only,
    })
    .optional()
    .describe('The Redis server that `listen.redis` connects to; the credential is a login.'),
}

/** `downstreams/<id>.yaml`: a service that credentials are for, and the kind of credential it takes. */
export const downstreamSchema = z.discriminatedUnion('credential', [
  z.strictObject({
    ...common,
    credential: z.literal('oauth_grant').describe("The user's own grant at an OAuth provider."),
    ...provided,
    offline: z
      .boolean()
      .default(true)
      .describe(
        "Whether to request the provider's `offline_scope`. False: the grant ends with the user's session at the provider.",
      ),
    authorization_parameters: z
      .record(z.string(), z.string())
      .default({})
      .describe(
        'Parameters of the authorization request in addition to those of the provider file, for example `audience`.',
      ),
  }),
  z.strictObject({
    ...common,
    ...provided,
    ...requested,
    credential: z
      .literal('client_credentials')
      .describe(
        "A token of Deputy's own client at an authorization server (RFC 6749 section 4.4). Its rights are the same for every caller, so policies decide which callers may have it.",
      ),
  }),
  z.strictObject({
    ...common,
    ...provided,
    ...requested,
    credential: z
      .literal('token_exchange')
      .describe("The user's token, exchanged at an authorization server (RFC 8693) that knows both services."),
    subject_token_type: tokenTypeSchema
      .optional()
      .describe("Token type under which the user's token is sent; default: the type under which it was received."),
    requested_token_type: tokenTypeSchema
      .optional()
      .describe('Token type that is requested; default: the server chooses.'),
    actor: z
      .enum(['none', 'client'])
      .default('none')
      .describe(
        "client: a token of Deputy's client is sent as `actor_token`, so that the service sees which client acts.",
      ),
  }),
  z.strictObject({
    ...common,
    ...provided,
    ...requested,
    credential: z
      .literal('entra_obo')
      .describe(
        "The user's token, exchanged at Microsoft Entra ID (on-behalf-of flow); its `aud` must be Deputy's client there.",
      ),
  }),
  z.strictObject({
    ...common,
    ...provided,
    ...requested,
    credential: z
      .literal('jwt_bearer')
      .describe(
        'A token for an assertion that Deputy signs with a key of its own (RFC 7523 section 2.1), or that assertion itself.',
      ),
    assertion: z
      .strictObject({
        key: secretReferenceSchema.describe(
          'The private key: JWK, PEM (PKCS #8), or the key file of a Google service account.',
        ),
        issuer: z.string().min(1).optional().describe('`iss`; default: the client id, or the account of the key file.'),
        subject: z
          .enum(['none', 'user', 'issuer'])
          .or(others)
          .default('user')
          .describe(
            "`sub`: the user's name (followed by `suffix`, such as `@example.com`), the issuer, a fixed text, or none.",
          ),
        audience: z.string().min(1).optional().describe('`aud`; default: the token endpoint.'),
        scope: z
          .enum(['parameter', 'claim'])
          .default('parameter')
          .describe(
            'Where the scopes are sent: as a parameter of the request, or in the assertion, as Google requires.',
          ),
        lifetime: lifetimeSchema.default(300_000).describe('Lifetime of the assertion.'),
        self_signed: z
          .boolean()
          .default(false)
          .describe('The assertion itself is the token, and no request is sent. `audience` is then the service.'),
      })
      .describe('The assertion that Deputy signs.'),
  }),
  z.strictObject({
    ...common,
    ...provided,
    ...requested,
    credential: z
      .literal('saml_bearer')
      .describe(
        'A token for a SAML 2.0 assertion that Deputy signs with a key of its own (RFC 7522 section 2.1), as SAP and Salesforce accept it.',
      ),
    assertion: z
      .strictObject({
        key: secretReferenceSchema.describe('The private key: RSA of at least 2048 bits, JWK or PEM.'),
        certificate: secretReferenceSchema
          .optional()
          .describe('Certificate of the key, PEM, included in the signature. Absent: the service must know the key.'),
        issuer: z.string().min(1).optional().describe('`Issuer`; default: the client id.'),
        subject: z
          .enum(['user', 'issuer'])
          .or(others)
          .default('user')
          .describe(
            "`NameID`: the user's name (followed by `suffix`, such as `@example.com`), the issuer, or a fixed text.",
          ),
        name_id_format: resourceSchema
          .default('urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified')
          .describe('Format of the name, for example `urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress`.'),
        audience: z.string().min(1).optional().describe('`Audience`; default: the token endpoint.'),
        authn_context: resourceSchema
          .optional()
          .describe(
            '`AuthnContextClassRef`: the way in which users signed in, in the terms of the service, where it requires one. Absent: the assertion states no sign-in, because users did not sign in to Deputy (RFC 7522 section 3).',
          ),
        attributes: z
          .record(z.string().min(1), z.string())
          .default({})
          .describe('Attributes of the assertion, by name; SAP, for example, requires the client id as `client_id`.'),
        lifetime: lifetimeSchema.default(300_000).describe('Lifetime of the assertion.'),
      })
      .describe('The assertion that Deputy signs.'),
  }),
  z.strictObject({
    ...common,
    ...provided,
    ...requested,
    resource: resourceSchema.describe('The service, which the assertion names.'),
    credential: z
      .literal('id_jag')
      .describe(
        "A token for an identity assertion (ID-JAG) that the tenant's identity provider issues for the user's sign-in: enterprise-managed authorization. `provider` is the authorization server of the service; at the identity provider Deputy is the client of the tenant's `sign_in`.",
      ),
  }),
  z.strictObject({
    ...common,
    resource: resourceSchema.describe('The audience of the minted token.'),
    credential: z.literal('minted').describe('A token (RFC 9068) that Deputy signs itself.'),
    bound: z
      .enum(['any', 'dpop', 'mtls'])
      .default('any')
      .describe(
        "The key of the server to which the token is bound. dpop: the key that the request proves (RFC 9449). mtls: the certificate in the server's file (RFC 8705). any: the key that the request proves, if it proves one.",
      ),
  }),
  z.strictObject({
    ...common,
    ...databases,
    credential: z.literal('static').describe('A secret of the tenant, exactly as its backend stores it.'),
    ...kept,
  }),
  z.strictObject({
    ...common,
    ...kept,
    credential: z
      .literal('api_key')
      .describe('A key of the tenant, as its backend stores it. It must be one line of printable ASCII.'),
  }),
  z.strictObject({
    ...common,
    ...databases,
    ...kept,
    credential: z
      .literal('basic')
      .describe(
        'A login of the tenant, as its backend stores it. It must be JSON with username and password. `inject` with `basic: {}` sends it as the header Authorization (RFC 7617).',
      ),
  }),
  z.strictObject({ ...common, ...databases, ...dynamic }),
  z.strictObject({ ...common, ...githubApp }),
  z.strictObject({ ...common, ...awsSts }).superRefine(checkAwsSts),
  z.strictObject({ ...common, ...gcpSts }),
  z.strictObject({ ...common, ...azure }),
  z.strictObject({
    ...common,
    credential: z
      .literal('mtls_certificate')
      .describe(
        'A client certificate with its key, which a backend issues for one user or one server: JSON with certificate, private_key and ca_chain. A revocation revokes it.',
      ),
    backend: idSchema.describe('The backend that issues it: one of kind `vault`.'),
    role: engineRoleSchema.describe('Role of the PKI engine there.'),
    common_name: z
      .string()
      .regex(
        /^(?:[A-Za-z0-9._@-]|\{(?:tenant|server|user)\})+$/,
        'write letters, digits, ".", "_", "@", "-", and {tenant}, {server} or {user}',
      )
      .default('{server}.{tenant}')
      .describe('Common name of the certificate.'),
    uri_prefix: resourceSchema
      .optional()
      .describe(
        'Prefix of the URI in the certificate (SAN), such as `spiffe://example.com`; `/tenant/ID/server/ID` and, for a user, `/user/NAME` follow it.',
      ),
  }),
])
export type Downstream = z.output<typeof downstreamSchema>
export type CredentialKind = Downstream['credential']
/** Those whose token comes from an authorization server at which Deputy is a client. */
export type ProvidedDownstream = Extract<Downstream, { client: unknown }>

/** All its clients: that of every tenant, and those of single ones. */
export const clientsOf = ({ clients, client }: ProvidedDownstream): readonly OAuthClient[] => [
  client,
  ...Object.values(clients),
]

/** Deputy's client for a tenant: its own, else that of every tenant. */
export const clientFor = ({ clients, client }: ProvidedDownstream, tenant: string): OAuthClient =>
  ofTenant(clients, client, tenant) ?? client

/** Those whose credential is a secret of the tenant, which may rotate. */
export type KeptDownstream = Extract<Downstream, { secret: string }>
export const keeps = (
  downstream: Downstream | undefined,
  { backend, secret }: { readonly backend: string; readonly secret: string },
): boolean =>
  downstream !== undefined && 'secret' in downstream && downstream.backend === backend && downstream.secret === secret

/** The kinds by their names. */
export const credentialKindSchema = z.enum(downstreamSchema.options.map(({ shape }) => shape.credential.value))
export type DownstreamOf<Kind extends CredentialKind> = Extract<Downstream, { credential: Kind }>

/** Whether Deputy asks for tokens that are bound to a key of its own: those may not leave it, and may have to. */
export const wantsBound = (downstream: Downstream, provider: Provider | undefined): boolean => {
  // It needs no request to a provider.
  if (downstream.credential === 'jwt_bearer' && downstream.assertion.self_signed) return false
  return provider?.dpop === 'required' || (provider?.dpop === 'offered' && downstream.inject?.only === true)
}

/** Kinds that exist only for a user: a server cannot ask for itself. */
const OF_USERS: ReadonlySet<CredentialKind> = new Set(['oauth_grant', 'token_exchange', 'entra_obo', 'id_jag'])
export const needsUser = (kind: CredentialKind): boolean => OF_USERS.has(kind)
