import { z } from 'zod'
import { idSchema, resourceSchema, scopeSchema, tenantsSchema } from './values.ts'

const unixSchema = z.strictObject({
  uid: z.int().nonnegative().optional(),
  gid: z.int().nonnegative().optional(),
  exe: z.string().startsWith('/').optional().describe('Absolute path of the executable, links resolved.'),
  sha256: z.string().regex(/^[0-9a-f]{64}$/).optional().describe('SHA-256 of the executable, in hex.'),
}).refine((unix) => unix.uid !== undefined || unix.sha256 !== undefined, 'name at least `uid` or `sha256`: a path or group alone proves little')

/** A way in which a workload proves that it is this server. */
export const attestationSchema = z.union([
  z.strictObject({ unix: unixSchema }).describe('The kernel says who is at the other end of the Unix socket.'),
  z.strictObject({ private_key_jwt: z.strictObject({ jwks: z.strictObject({ keys: z.array(z.record(z.string(), z.unknown())).min(1) }) }) })
    .describe('Client assertion (RFC 7523) signed with one of these public keys.'),
  z.strictObject({ client_secret: z.strictObject({ scrypt: z.string().regex(/^scrypt\$/, 'write the output of `deputy server secret`') }) })
    .describe('client_secret_basic or client_secret_post; only a slow hash is kept.'),
])
export type Attestation = z.output<typeof attestationSchema>

const downstreamUseSchema = z.strictObject({ scopes: z.array(scopeSchema).default([]) })

/** `servers/<id>.yaml`: an MCP server, registered. */
export const serverSchema = z.strictObject({
  server: idSchema,
  name: z.string().optional(),
  description: z.string().optional(),
  version: z.string().optional(),
  environment: idSchema.optional().describe('Only daemons of this environment see the server; absent: all.'),
  resource: resourceSchema.describe('The server\'s resource URI: the `aud` that a subject token must have.'),
  tenants: tenantsSchema,
  owner: z.string().min(1),
  team: z.string().optional(),
  status: z.enum(['proposed', 'approved', 'deprecated', 'retired']).default('proposed'),
  replaced_by: idSchema.optional(),
  attest: z.array(attestationSchema).default([]),
  login_session: z.boolean().default(false).describe('A stdio server may act for the Unix user that runs it, once that user has done `deputy login`.'),
  downstreams: z.record(idSchema, downstreamUseSchema).default({}).describe('What the server may ask for on behalf of users.'),
  own: z.record(idSchema, downstreamUseSchema).default({}).describe('What the server may ask for itself (client_credentials).'),
  tools: z.record(z.string().min(1).max(128), z.strictObject({
    downstream: idSchema.optional(),
    scopes: z.array(scopeSchema).default([]),
    description: z.string().optional(),
  })).default({}),
})
export type Server = z.output<typeof serverSchema>
