import { z } from 'zod'
import { parSchema } from './provider.ts'
import type { Server } from './server.ts'
import { idSchema, lifetimeSchema, scopeSchema, secretReferenceSchema, servesTenant, urlSchema } from './values.ts'

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
        'Stands before each value, so that a role is not taken for a group of the same name: `role:`. Values of other claims that begin with it are left out.',
      ),
  }),
])

const claimsSchema = z.strictObject({
  user: claimPathSchema.default('sub').describe('Claim that names the user.'),
  display: claimPathSchema
    .optional()
    .describe(
      'Claim with a name that people know the user by, such as `preferred_username` or `email`: the connect and login pages show it beside the id, and commands take it for the id of the one user who has it. Name one that users cannot choose. It decides nothing else.',
    ),
  groups: z
    .union([groupsClaimSchema.transform((each) => [each]), z.array(groupsClaimSchema).min(1).max(20)])
    .prefault('groups')
    .describe(
      "Claim with the user's groups, or a list of such claims; dots lead to nested ones, as in `realm_access.roles` and `resource_access.CLIENT.roles`. A value that begins with a slash is a path: `/sales/emea` is the groups `sales/emea` and `sales`. With `{ claim, prefix }` something stands before each value.",
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
  jwks_uri: urlSchema.optional().describe("Where the keys are; default: what the issuer's discovery document says."),
  algorithms: z
    .array(z.enum(signatureAlgorithms))
    .min(1)
    .default(['RS256', 'PS256', 'ES256'])
    .describe('Signature algorithms that are accepted.'),
  introspection: z
    .strictObject({
      endpoint: urlSchema
        .optional()
        .describe('Introspection endpoint (RFC 7662); default: what the discovery document says.'),
      for: z
        .enum(['opaque', 'all'])
        .default('opaque')
        .describe(
          'Which tokens the issuer is asked about: those that are no JWTs, or all of them. With all, a logout, a revoked token or a disabled user at the issuer counts within 30 seconds instead of at the end of the token, and lightweight tokens get the claims that they leave out.',
        ),
      client_id: z.string().min(1).describe("Deputy's client at the issuer."),
      client_secret: secretReferenceSchema.describe('Its secret.'),
    })
    .optional()
    .describe(
      'How opaque subject tokens of this issuer are checked; without it only JWTs are accepted. Opaque tokens are refused where issuers of several tenants would have to be shown them: a server of many tenants needs JWTs, or one issuer that all of them ask in the same way.',
    ),
  session_lifetime: lifetimeSchema
    .refine((time) => time >= 86_400_000, 'write a length of time of at least 1d')
    .default(31 * 86_400_000)
    .describe(
      'How long a token that names its session (`sid`) counts at most, from when it was issued, whatever its `exp` says; a logout is remembered for so long. Between 1d and 366d. After it is raised, a token whose logout is forgotten already can count again, unless all tokens of the issuer end within the old value.',
    ),
  claims: claimsSchema.prefault({}).describe('How its claims name user, groups and tenant.'),
})
export type TrustedIssuer = z.output<typeof trustedIssuerSchema>

export const signInSchema = z.strictObject({
  issuer: urlSchema.describe("OpenID provider at which the tenant's users sign in; one of `issuers`."),
  client_id: z.string().min(1).describe("Deputy's client at the provider."),
  client_secret: secretReferenceSchema.optional().describe('Absent for a public client.'),
  scopes: z.array(scopeSchema).default(['openid']).describe('Scopes of the sign-in.'),
  par: parSchema,
  login_hint: z
    .boolean()
    .default(false)
    .describe(
      'True: a connect link tells the identity provider for which user it was made (`login_hint`), which helps where users sign in with the name that they have here. A person who opens the link sees that name.',
    ),
})

export const signalTransmitterSchema = z.strictObject({
  issuer: urlSchema.describe('Issuer of its security event tokens, compared character by character.'),
  audience: z.string().min(1).describe('What stands as `aud` in them: what the transmitter calls this receiver.'),
  users_of: urlSchema.optional().describe('The trusted issuer whose users its events are about; default: itself.'),
  jwks_uri: urlSchema.optional().describe('Where its keys are; default: what its discovery document says.'),
  algorithms: z
    .array(z.enum(signatureAlgorithms))
    .min(1)
    .default(['RS256', 'PS256', 'ES256'])
    .describe('Signature algorithms that are accepted.'),
  token: secretReferenceSchema.describe('The bearer token that the transmitter sends along.'),
  session_revoked: z
    .enum(['session', 'user'])
    .optional()
    .describe(
      'What a session-revoked event that names a session ends: the tokens and sign-ins with that `sid`, or all that the user has, the grants at services included. Default: the session, once a token of the issuer has named one; all of the user before, because nothing else could be found. An event that names no session ends all that the user has.',
    ),
})
export type SignalTransmitter = z.output<typeof signalTransmitterSchema>

export const identityAssertionsSchema = z.strictObject({
  issuers: z.array(urlSchema).min(1).describe('Those of `issuers` whose assertions are taken.'),
  clients: z
    .array(
      z.strictObject({
        client_id: z
          .string()
          .min(1)
          .max(200)
          .describe("The MCP client's id at Deputy; it stands as `client_id` in the assertion."),
        client_secret: z
          .strictObject({ scrypt: z.string().regex(/^scrypt\$/, 'write the output of `deputy server secret`') })
          .describe('Only a slow hash is kept.'),
      }),
    )
    .min(1)
    .describe('The MCP clients that may redeem them.'),
})

/** `tenants/<id>.yaml`: a customer, its identity provider, and how its users sign in. */
export const tenantSchema = z.strictObject({
  tenant: idSchema.describe('The id; it stands in keys, policies (`Deputy::Tenant::"acme"`) and records.'),
  name: z.string().optional().describe('What people call it.'),
  enabled: z.boolean().default(true).describe('False: nobody of this tenant gets anything.'),
  issuers: z.array(trustedIssuerSchema).default([]).describe("Whose tokens say who the tenant's users are."),
  signals: z
    .array(signalTransmitterSchema)
    .default([])
    .describe(
      'Whose security events are taken (CAEP session-revoked and credential-change, pushed to /signals/<tenant> on the connect address): they revoke the user.',
    ),
  identity_assertions: identityAssertionsSchema
    .optional()
    .describe(
      'Which identity assertions (ID-JAG) MCP clients may redeem for tokens of MCP servers, at /oauth2/token on the connect address.',
    ),
  sign_in: signInSchema.optional().describe('Sign-in on the connect pages and for `deputy login`.'),
})
export type Tenant = z.output<typeof tenantSchema>

/** Whether an MCP client of one of the server's tenants may redeem identity assertions for it at Deputy. */
export const takesAssertions = (server: Pick<Server, 'tenants'>, tenants: Iterable<Tenant>): boolean =>
  [...tenants].some(
    ({ tenant, enabled, identity_assertions: taken }) =>
      enabled && taken !== undefined && servesTenant(server.tenants, tenant),
  )
