import { z } from 'zod'
import { clientTlsSchema } from './tls.ts'
import { idSchema, secretReferenceSchema, urlSchema } from './values.ts'

const server = {
  host: z.string().min(1).describe('Host name or address.'),
  tls: clientTlsSchema,
  admin: secretReferenceSchema.describe('The login that may change the secret: JSON with username and password.'),
}
const roleSchema = z.string().regex(/^[A-Za-z_][A-Za-z0-9_$-]{0,62}$/, 'write the name of a role')

/** `how` in a rotation policy: the rotator and its settings. */
export const rotatorSchema = z.discriminatedUnion('rotator', [
  z
    .strictObject({
      rotator: z.literal('postgres').describe('A PostgreSQL role. The secret is JSON: username, password.'),
      ...server,
      port: z.int().min(1).max(65_535).default(5432).describe('Port.'),
      database: z.string().min(1).default('postgres').describe('Database to log in to.'),
      strategy: z
        .enum(['single', 'alternating'])
        .describe(
          'single: one role, whose old password ends with the change; alternating: two roles in turn, of which the old one works until the grace is over.',
        ),
      roles: z.array(roleSchema).min(1).max(2).describe('The role, or the two roles.'),
    })
    .refine(
      ({ strategy, roles }) => roles.length === (strategy === 'single' ? 1 : 2) && new Set(roles).size === roles.length,
      'single has one role, alternating two different ones',
    ),
  z.strictObject({
    rotator: z
      .literal('redis')
      .describe('A Redis ACL user, who may have two passwords. The secret is JSON: username, password.'),
    ...server,
    port: z.int().min(1).max(65_535).default(6379).describe('Port.'),
    user: z
      .string()
      .regex(/^[^\s\0]{1,128}$/)
      .describe('The ACL user.'),
  }),
  z.strictObject({
    rotator: z.literal('command').describe('A program that deputy.yaml allows.'),
    command: idSchema.describe('Its id under rotation.commands in deputy.yaml.'),
    keeps_old: z.boolean().default(true).describe('Whether the old secret works until the program has retired it.'),
  }),
  z.strictObject({
    rotator: z.literal('webhook').describe('A service of yours, which receives each step as a signed request.'),
    url: urlSchema.describe('URL of the service.'),
    key: secretReferenceSchema.describe('Key of the signature, HMAC-SHA-256.'),
    keeps_old: z.boolean().default(true).describe('Whether the old secret works until the service has retired it.'),
  }),
  z.strictObject({
    rotator: z
      .literal('oauth_client')
      .describe(
        'The secret of an OAuth client, by client configuration (RFC 7592), at a server that issues a new one when a registration is updated.',
      ),
    registration: urlSchema.describe('The client configuration endpoint (`registration_client_uri`).'),
    token: z
      .strictObject({ secret: idSchema })
      .describe(
        'The registration access token, in the embedded backend; a new one that the server issues is stored there.',
      ),
    token_endpoint: urlSchema.describe('Token endpoint at which Deputy tests the secret.'),
    client: z.string().min(1).describe('The client id.'),
    authentication: z
      .enum(['client_secret_basic', 'client_secret_post'])
      .default('client_secret_basic')
      .describe('How the client authenticates.'),
  }),
  z.strictObject({
    rotator: z
      .literal('vault_static_role')
      .describe("A static role of Vault's database engine; the secret is a copy of its login."),
    backend: idSchema.describe('The backend of kind `vault`.'),
    role: z
      .string()
      .regex(/^[A-Za-z0-9_.-]{1,128}$/)
      .describe('The static role.'),
  }),
  z.strictObject({
    rotator: z
      .literal('deputy_keys')
      .describe(
        "Deputy's own keys: `secrets: { backend: deputy, name: signing-keys }`, `data-key.*` for the tenants' data keys, or `key-encryption-key` where that key is in a file.",
      ),
  }),
])
export type RotatorSettings = z.output<typeof rotatorSchema>
export type RotatorSettingsOf<Kind extends RotatorSettings['rotator']> = Extract<RotatorSettings, { rotator: Kind }>
