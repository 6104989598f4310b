import { z } from 'zod'
import { clientSecretHashSchema } from './client-secret-hash.ts'
import type { Server } from './server.ts'
import { signInSchema } from './sign-in.ts'
import { idSchema, lifetimeSchema, secretReferenceSchema, servesTenant, urlSchema } from './values.ts'

/** Signature algorithms that may be allowed for subject tokens: asymmetric ones only, so that no key can be confused with a shared secret. */
export const signatureAlgorithms = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
  'Ed25519',
] as const

/** A claim, or a path to one that is nested: `realm_access.roles`. */
const claimPathSchema = z.string().min(1).max(300)
const groupsClaimSchema = z.union([
  claimPathSchema.transform((claim) => ({ claim, prefix: '' })),
  z.strictObject({
    claim: claimPathSchema,
    prefix: z
      .string()
      .max(100)
      .default('')
      .describe(
        'Prefix of each value, such as `role:`, so that a role is not mistaken for a group of the same name. Values of other claims that begin with the prefix are left out.',
      ),
  }),
])

const claimsSchema = z.strictObject({
  user: claimPathSchema.default('sub').describe('Claim that names the user.'),
  display: claimPathSchema
    .optional()
    .describe(
      "Claim with the user's display name, such as `preferred_username` or `email`. The connect and login pages show it next to the id, and commands accept it in place of the id if only one user has it. Choose a claim that users cannot change. It has no other effect.",
    ),
  groups: z
    .union([groupsClaimSchema.transform((each) => [each]), z.array(groupsClaimSchema).min(1).max(20)])
    .prefault('groups')
    .describe(
      "Claim with the user's groups, or a list of such claims; dots name nested claims, as in `realm_access.roles` and `resource_access.CLIENT.roles`. A value that begins with a slash is a path: `/sales/emea` is the groups `sales/emea` and `sales`. `{ claim, prefix }` adds a prefix to each value.",
    ),
  tenant: z
    .strictObject({ claim: claimPathSchema, value: z.string().min(1) })
    .optional()
    .describe(
      'Claim and value that a token must carry to belong to this tenant; needed where several tenants share an issuer.',
    ),
})

export const trustedIssuerSchema = z.strictObject({
  issuer: urlSchema.describe('Issuer identifier, compared character by character with `iss`.'),
  jwks_uri: urlSchema.optional().describe("URL of the key set; default: as in the issuer's discovery document."),
  algorithms: z
    .array(z.enum(signatureAlgorithms))
    .min(1)
    .default(['RS256', 'PS256', 'ES256'])
    .describe('Signature algorithms that are accepted.'),
  introspection: z
    .strictObject({
      endpoint: urlSchema
        .optional()
        .describe('Introspection endpoint (RFC 7662); default: as in the discovery document.'),
      for: z
        .enum(['opaque', 'all'])
        .default('opaque')
        .describe(
          'Tokens that Deputy introspects at the issuer: opaque tokens, or all. With all, a logout, a revoked token or a disabled user at the issuer takes effect within 30 seconds instead of at the end of the token, and lightweight tokens receive the claims that they leave out.',
        ),
      client_id: z.string().min(1).describe("Deputy's client at the issuer."),
      client_secret: secretReferenceSchema.describe('Secret of the client.'),
    })
    .optional()
    .describe(
      'How opaque subject tokens of this issuer are verified; without it only JWTs are accepted. An opaque token is refused where Deputy would have to show it to issuers of several tenants: a server of many tenants needs JWTs, or one issuer that all its tenants introspect in the same way.',
    ),
  session_lifetime: lifetimeSchema
    .refine((time) => time >= 86_400_000, 'write a length of time of at least 1d')
    .default(31 * 86_400_000)
    .describe(
      'Longest lifetime of a token that names its session (`sid`), from when it was issued and regardless of its `exp`; a logout is remembered for this time. Between 1d and 366d. After an increase, a token whose logout is already forgotten can become valid again, unless all tokens of the issuer end within the old value.',
    ),
  claims: claimsSchema.prefault({}).describe('The claims that name user, groups and tenant.'),
})
export type TrustedIssuer = z.output<typeof trustedIssuerSchema>

export const signalTransmitterSchema = z.strictObject({
  issuer: urlSchema.describe('Issuer of its security event tokens, compared character by character.'),
  audience: z.string().min(1).describe("`aud` of the tokens: the transmitter's name for this receiver."),
  users_of: urlSchema
    .optional()
    .describe('The trusted issuer whose users the events are about; default: the transmitter.'),
  jwks_uri: urlSchema.optional().describe('URL of the key set; default: as in the discovery document.'),
  algorithms: z
    .array(z.enum(signatureAlgorithms))
    .min(1)
    .default(['RS256', 'PS256', 'ES256'])
    .describe('Signature algorithms that are accepted.'),
  token: secretReferenceSchema.describe('The bearer token that the transmitter sends.'),
  session_revoked: z
    .enum(['session', 'user'])
    .optional()
    .describe(
      'What a session-revoked event that names a session ends: the tokens and sign-ins with that `sid`, or everything of the user, including the grants at services. Default: the session, once a token of the issuer has named one; before that everything of the user, because the session cannot be found. An event that names no session ends everything of the user.',
    ),
})
export type SignalTransmitter = z.output<typeof signalTransmitterSchema>

export const identityAssertionsSchema = z.strictObject({
  issuers: z.array(urlSchema).min(1).describe('Those of `issuers` whose assertions Deputy accepts.'),
  clients: z
    .array(
      z.strictObject({
        client_id: z
          .string()
          .min(1)
          .max(200)
          .describe("The MCP client's id at Deputy, which is `client_id` of the assertion."),
        client_secret: z.strictObject({ scrypt: clientSecretHashSchema }).describe('Only a slow hash is kept.'),
      }),
    )
    .min(1)
    .describe('The MCP clients that may redeem them.'),
  aud_tenant: z
    .string()
    .min(1)
    .max(256)
    .optional()
    .describe('What an assertion calls this tenant in `aud_tenant`, where it says so. Default: its id.'),
  user_from: z
    .enum(['issuer', 'aud_sub'])
    .default('issuer')
    .describe(
      "The user of an assertion. issuer: as `claims.user` of the issuer says; an assertion whose `aud_sub` names another one is refused. aud_sub: `aud_sub`, where the assertion has it: the identity provider knows Deputy's names of users.",
    ),
})

/** `tenants/<id>.yaml`: a customer, its identity provider, and how its users sign in. */
export const tenantSchema = z.strictObject({
  tenant: idSchema.describe('The id, as used in keys, policies (`Deputy::Tenant::"acme"`) and records.'),
  name: z.string().optional().describe('Display name.'),
  enabled: z.boolean().default(true).describe('False: Deputy issues nothing for this tenant.'),
  issuers: z.array(trustedIssuerSchema).default([]).describe("Issuers whose tokens identify the tenant's users."),
  signals: z
    .array(signalTransmitterSchema)
    .default([])
    .describe(
      'Transmitters whose security events Deputy accepts (CAEP session-revoked and credential-change, pushed to /signals/<tenant> on the connect address). An event revokes the user.',
    ),
  identity_assertions: identityAssertionsSchema
    .optional()
    .describe(
      'Identity assertions (ID-JAG) that MCP clients may redeem for tokens of MCP servers, at /oauth2/token on the connect address.',
    ),
  sign_in: signInSchema.optional().describe('Sign-in of users on the connect pages and for `deputy login`.'),
})
export type Tenant = z.output<typeof tenantSchema>

/** Whether an MCP client of one of the server's tenants may redeem identity assertions for it at Deputy. */
export const takesAssertions = (server: Pick<Server, 'tenants'>, tenants: Iterable<Tenant>): boolean =>
  [...tenants].some(
    ({ tenant, enabled, identity_assertions: taken }) =>
      enabled && taken !== undefined && servesTenant(server.tenants, tenant),
  )
