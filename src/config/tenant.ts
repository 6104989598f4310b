import { z } from 'zod'
import { idSchema, scopeSchema, secretReferenceSchema, urlSchema } from './values.ts'

/** Signature algorithms that may be allowed for subject tokens: asymmetric ones only, so that no key can be confused with a shared secret. */
export const signatureAlgorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'] as const

const claimsSchema = z.strictObject({
  user: z.string().min(1).default('sub').describe('Claim that names the user.'),
  groups: z.string().min(1).default('groups').describe('Claim with the list of the user\'s groups.'),
  tenant: z.strictObject({ claim: z.string().min(1), value: z.string().min(1) }).optional()
    .describe('Claim and value that a token must carry to belong to this tenant; needed where several tenants share an issuer.'),
})

export const trustedIssuerSchema = z.strictObject({
  issuer: urlSchema.describe('Issuer identifier, compared character by character with `iss`.'),
  jwks_uri: urlSchema.optional().describe('Where the keys are; default: what the issuer\'s discovery document says.'),
  algorithms: z.array(z.enum(signatureAlgorithms)).min(1).default(['RS256', 'PS256', 'ES256']).describe('Signature algorithms that are accepted.'),
  introspection: z.strictObject({
    endpoint: urlSchema.optional().describe('Introspection endpoint (RFC 7662); default: what the discovery document says.'),
    client_id: z.string().min(1),
    client_secret: secretReferenceSchema,
  }).optional().describe('How opaque subject tokens of this issuer are checked; without it only JWTs are accepted.'),
  claims: claimsSchema.prefault({}),
})
export type TrustedIssuer = z.output<typeof trustedIssuerSchema>

export const signInSchema = z.strictObject({
  issuer: urlSchema.describe('OpenID provider at which the tenant\'s users sign in; one of `issuers`.'),
  client_id: z.string().min(1),
  client_secret: secretReferenceSchema.optional().describe('Absent for a public client.'),
  scopes: z.array(scopeSchema).default(['openid']),
})

/** `tenants/<id>.yaml`: a customer, its identity provider, and how its users sign in. */
export const tenantSchema = z.strictObject({
  tenant: idSchema,
  name: z.string().optional(),
  enabled: z.boolean().default(true),
  issuers: z.array(trustedIssuerSchema).default([]),
  sign_in: signInSchema.optional().describe('Sign-in on the connect pages and for `deputy login`.'),
})
export type Tenant = z.output<typeof tenantSchema>
