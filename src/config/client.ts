import { z } from 'zod'
import { clientSecretHashSchema } from './client-secret-hash.ts'
import { agentSchema } from './agent.ts'
import { redirectUriProblem } from './redirect-uri.ts'
import { idSchema, tenantsSchema } from './values.ts'

/** What the ids of clients begin with that have registered themselves: no file can have such an id. */
export const REGISTERED_PREFIX = 'dcr_'

const authenticationSchema = z.union([
  z.literal('none').describe('A program of the user, which can keep no secret.'),
  z
    .strictObject({
      client_secret: z.strictObject({
        scrypt: clientSecretHashSchema,
      }),
    })
    .describe('client_secret_basic or client_secret_post; only a slow hash is kept.'),
  z
    .strictObject({
      private_key_jwt: z.strictObject({
        jwks: z.strictObject({ keys: z.array(z.record(z.string(), z.unknown())).min(1) }),
      }),
    })
    .describe('Client assertion (RFC 7523) signed with one of these public keys.'),
])

const redirectUriSchema = z.string().superRefine((uri, context) => {
  const problem = redirectUriProblem(uri, '*')
  if (problem !== undefined) context.addIssue({ code: 'custom', message: problem })
})

/**
 * `clients/<id>.yaml`: an MCP client that the administrator has registered, at which users sign in through Deputy. Not to be confused
 * with the documents under `/clients/` on the connect address, by which Deputy itself is a client of providers.
 */
export const clientSchema = z
  .strictObject({
    client: idSchema
      .refine((id) => !id.startsWith(REGISTERED_PREFIX), 'ids of this form belong to clients that register themselves')
      .describe('The id; it is the `client_id`.'),
    name: z.string().min(1).max(100).optional().describe('What the consent page calls it. Default: its id.'),
    environment: idSchema.optional().describe('Only daemons of this environment see the client; absent: all.'),
    owner: z.string().min(1).max(200).describe('Who answers for it, for example an e-mail address. Users see it.'),
    enabled: z.boolean().default(true).describe('false: users cannot sign in at it, and its tokens count no more.'),
    tenants: tenantsSchema.default('*').describe('The tenants whose users may sign in at it, or "*".'),
    servers: z
      .union([z.literal('*'), z.array(idSchema).min(1)])
      .default('*')
      .describe('The servers that it may use, or "*" for all with `sign_in: deputy`.'),
    redirect_uris: z
      .array(redirectUriSchema)
      .max(20)
      .default([])
      .describe(
        'Addresses to which the browser may go back, compared as they are; of http://127.0.0.1, http://localhost and http://[::1] the port is free (RFC 8252 section 7.3).',
      ),
    authentication: authenticationSchema
      .default('none')
      .describe('How it proves who it is at the token endpoint; none: a public client.'),
    agent: agentSchema
      .optional()
      .describe(
        'Makes it an agent: it gets tokens for itself, and no user signs in at it. Then `tenants`, `servers` and `redirect_uris` stay out.',
      ),
  })
  .superRefine(({ agent, authentication, redirect_uris: uris, tenants, servers }, context) => {
    if (agent === undefined) return
    const say = (path: string, message: string): void => {
      context.addIssue({ code: 'custom', path: [path], message })
    }
    if (uris.length > 0) say('redirect_uris', 'no user signs in at an agent; take the redirect URIs out')
    if (tenants !== '*') say('tenants', 'an agent acts in agent.tenant; take tenants out')
    if (servers !== '*') say('servers', 'the servers of an agent stand in agent.servers; take servers out')
    if (authentication === 'none' && agent.tokens.length === 0)
      say('agent', 'an agent proves who it is: write authentication, or agent.tokens')
  })
export type Client = z.output<typeof clientSchema>
