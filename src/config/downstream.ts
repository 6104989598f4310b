import { z } from 'zod'
import { tlsSchema } from './tls.ts'
import { durationSchema, idSchema, resourceSchema, scopeSchema, secretReferenceSchema, tenantsSchema } from './values.ts'

const clientSchema = z.strictObject({
  client_id: z.string().min(1).describe('Client id at the provider.'),
  client_secret: secretReferenceSchema.optional().describe('Absent for a public client.'),
})
export type OAuthClient = z.output<typeof clientSchema>

const common = {
  downstream: idSchema.describe('The id; `audience` in a token request names it.'),
  name: z.string().optional().describe('What the consent page calls it.'),
  environment: idSchema.optional().describe('Only daemons of this environment see it; absent: all.'),
  enabled: z.boolean().default(true).describe('False: nobody gets a credential for it.'),
  tenants: tenantsSchema.default('*').describe('The tenants that use it.'),
  resource: resourceSchema.optional().describe('The URI that `resource` in a token request may name, and the audience of what is issued.'),
  scopes: z.record(scopeSchema, z.string()).default({}).describe('Every scope that exists, with what it allows, in words for the consent page.'),
  lifetime: durationSchema.optional().describe('Longest life of what is issued.'),
}

const only = z.boolean().default(false).describe('True: the login is used at the socket alone, and never handed out.')

/** Where the service is, for those who reach it through Deputy's own sockets and never see the credential. */
const databases = {
  postgres: z.strictObject({
    host: z.string().min(1).describe('Host name or address.'),
    port: z.int().min(1).max(65_535).default(5432).describe('Port.'),
    database: z.string().min(1).max(63).describe('Name of the database there.'),
    tls: tlsSchema, only,
  }).optional().describe('The PostgreSQL server of a credential that is a login (JSON with username and password): `listen.postgres` leads there.'),
  redis: z.strictObject({
    host: z.string().min(1).describe('Host name or address.'),
    port: z.int().min(1).max(65_535).default(6379).describe('Port.'),
    tls: tlsSchema, only,
  }).optional().describe('The Redis server of a credential that is a login: `listen.redis` leads there.'),
}

/** `downstreams/<id>.yaml`: a service that credentials are for, and the kind of credential it takes. */
export const downstreamSchema = z.discriminatedUnion('credential', [
  z.strictObject({
    ...common,
    credential: z.literal('oauth_grant').describe('The user\'s own grant at an OAuth provider.'),
    provider: idSchema.describe('The provider file.'),
    client: clientSchema.describe('Deputy\'s client at the provider.'),
    clients: z.record(idSchema, clientSchema).default({}).describe('Other clients for single tenants.'),
    wider: z.enum(['refuse', 'mark']).default('refuse').describe('What to do when the provider cannot narrow: refuse, or issue the wider token and say so in `scope`.'),
  }),
  z.strictObject({
    ...common,
    resource: resourceSchema.describe('The audience of the minted token.'),
    credential: z.literal('minted').describe('A token (RFC 9068) that Deputy signs itself.'),
  }),
  z.strictObject({
    ...common, ...databases,
    credential: z.literal('static').describe('A secret of the tenant, as it is in its backend.'),
    backend: idSchema.default('embedded').describe('The backend that keeps it.'),
    secret: idSchema.describe('Name of the secret; each tenant has its own.'),
  }),
  z.strictObject({
    ...common, ...databases,
    credential: z.literal('dynamic').describe('A login that a backend makes for the user, or the server, alone, and ends with its lease.'),
    backend: idSchema.describe('The backend that makes it: one of kind `vault`.'),
    role: z.string().regex(/^[A-Za-z0-9_.-]{1,128}$/).describe('Role of the database engine there.'),
    role_kind: z.enum(['dynamic', 'static']).default('dynamic').describe('static: one login for all, whose password the backend changes by itself.'),
  }),
])
export type Downstream = z.output<typeof downstreamSchema>
export type CredentialKind = Downstream['credential']
export type DownstreamOf<Kind extends CredentialKind> = Extract<Downstream, { credential: Kind }>
