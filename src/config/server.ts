import { z } from 'zod'
import { idSchema, resourceSchema, scopeSchema, tenantsSchema, urlSchema } from './values.ts'

const unixSchema = z.strictObject({
  uid: z.int().nonnegative().optional().describe('User id of the process.'),
  gid: z.int().nonnegative().optional().describe('Group id of the process.'),
  exe: z.string().startsWith('/').optional().describe('Absolute path of the executable, links resolved.'),
  sha256: z.string().regex(/^[0-9a-f]{64}$/).optional().describe('SHA-256 of the executable, in hex.'),
}).refine((unix) => unix.uid !== undefined || unix.sha256 !== undefined, 'name at least `uid` or `sha256`: a path or group alone proves little')

/** Names in Kubernetes: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ */
const LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/
const SUBDOMAIN = /^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$/

/** A way in which a workload proves that it is this server. */
export const attestationSchema = z.union([
  z.strictObject({ unix: unixSchema }).describe('The kernel says who is at the other end of the Unix socket.'),
  z.strictObject({ private_key_jwt: z.strictObject({ jwks: z.strictObject({ keys: z.array(z.record(z.string(), z.unknown())).min(1) }) }) })
    .describe('Client assertion (RFC 7523) signed with one of these public keys.'),
  z.strictObject({ kubernetes: z.strictObject({
    issuer: urlSchema.describe('The cluster\'s service-account issuer: `kubectl get --raw /.well-known/openid-configuration`.'),
    namespace: z.string().regex(LABEL, 'write the name of a namespace').describe('Namespace of the pod.'),
    service_account: z.string().regex(SUBDOMAIN, 'write the name of a service account').describe('Service account of the pod.'),
    audience: z.string().min(1).optional().describe('The `audience` of the projected volume; default: Deputy\'s issuer.'),
    jwks: z.strictObject({ keys: z.array(z.record(z.string(), z.unknown())).min(1) }).optional().describe('The cluster\'s keys, where its issuer cannot be reached: `kubectl get --raw /openid/v1/jwks`.'),
  }) }).describe('Projected service-account token of a Kubernetes pod, sent as a client assertion.'),
  z.strictObject({ client_secret: z.strictObject({ scrypt: z.string().regex(/^scrypt\$/, 'write the output of `deputy server secret`') }) })
    .describe('client_secret_basic or client_secret_post; only a slow hash is kept.'),
])
export type Attestation = z.output<typeof attestationSchema>

const downstreamUseSchema = z.strictObject({ scopes: z.array(scopeSchema).default([]).describe('Scopes that it may ask for; what is asked beyond them is left out.') })

/** `servers/<id>.yaml`: an MCP server, registered. */
export const serverSchema = z.strictObject({
  server: idSchema.describe('The id; it is the `client_id` of the local API.'),
  name: z.string().optional().describe('What the consent page calls it.'),
  description: z.string().optional().describe('What it is for.'),
  version: z.string().optional().describe('Version of the server.'),
  environment: idSchema.optional().describe('Only daemons of this environment see the server; absent: all.'),
  resource: resourceSchema.describe('The server\'s resource URI: the `aud` that a subject token must have.'),
  tenants: tenantsSchema.describe('The tenants whose users it may act for, or "*".'),
  owner: z.string().min(1).describe('Who answers for it, for example an e-mail address.'),
  team: z.string().optional().describe('The owner\'s team; policies can speak of it.'),
  status: z.enum(['proposed', 'approved', 'deprecated', 'retired']).default('proposed').describe('A deprecated server works and is warned; a proposed or retired one gets nothing.'),
  replaced_by: idSchema.optional().describe('The server that takes its place.'),
  attest: z.array(attestationSchema).default([]).describe('Ways in which it proves itself; any one is enough.'),
  login_session: z.boolean().default(false).describe('A stdio server may act for the Unix user that runs it, once that user has done `deputy login`.'),
  downstreams: z.record(idSchema, downstreamUseSchema).default({}).describe('What the server may ask for on behalf of users.'),
  own: z.record(idSchema, downstreamUseSchema).default({}).describe('What the server may ask for itself (client_credentials).'),
  tools: z.record(z.string().min(1).max(128), z.strictObject({
    downstream: idSchema.optional().describe('The downstream that the tool uses; absent: any.'),
    scopes: z.array(scopeSchema).default([]).describe('What the tool needs: a request that names the tool gets no more.'),
    requires: z.array(scopeSchema).default([]).describe('Scopes that the user\'s own token must have for the tool; the middleware for MCP servers asks the client for them.'),
    description: z.string().optional().describe('What the tool does.'),
  })).default({}).describe('The tools of the server.'),
})
export type Server = z.output<typeof serverSchema>
