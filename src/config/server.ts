import { z } from 'zod'
import { clientSecretHashSchema } from './client-secret-hash.ts'
import { execSchema } from './exec.ts'
import { idSchema, resourceSchema, scopeSchema, tenantsSchema, urlSchema } from './values.ts'

const unixSchema = z
  .strictObject({
    uid: z.int().nonnegative().optional().describe('User id of the process.'),
    gid: z.int().nonnegative().optional().describe('Group id of the process.'),
    exe: z.string().startsWith('/').optional().describe('Absolute path of the executable, links resolved.'),
    sha256: z
      .string()
      .regex(/^[0-9a-f]{64}$/)
      .optional()
      .describe('SHA-256 of the executable, in hex.'),
  })
  .refine(
    (unix) => unix.uid !== undefined || unix.sha256 !== undefined,
    'name at least `uid` or `sha256`: a path or a group by itself proves little',
  )

/** Names in Kubernetes: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ */
const LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/
const SUBDOMAIN = /^[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?$/

/** A way in which a workload proves that it is this server. */
export const attestationSchema = z.union([
  z
    .strictObject({ unix: unixSchema })
    .describe('The process at the other end of the Unix socket, as the kernel identifies it.'),
  z
    .strictObject({
      private_key_jwt: z.strictObject({
        jwks: z.strictObject({ keys: z.array(z.record(z.string(), z.unknown())).min(1) }),
      }),
    })
    .describe('Client assertion (RFC 7523) signed with one of these public keys.'),
  z
    .strictObject({
      kubernetes: z.strictObject({
        issuer: urlSchema.describe(
          "The cluster's service-account issuer: `kubectl get --raw /.well-known/openid-configuration`.",
        ),
        namespace: z.string().regex(LABEL, 'write the name of a namespace').describe('Namespace of the pod.'),
        service_account: z
          .string()
          .regex(SUBDOMAIN, 'write the name of a service account')
          .describe('Service account of the pod.'),
        audience: z
          .string()
          .min(1)
          .optional()
          .describe("`audience` of the projected volume; default: Deputy's issuer."),
        jwks: z
          .strictObject({ keys: z.array(z.record(z.string(), z.unknown())).min(1) })
          .optional()
          .describe("The cluster's keys, where its issuer cannot be reached: `kubectl get --raw /openid/v1/jwks`."),
      }),
    })
    .describe('Projected service-account token of a Kubernetes pod, sent as a client assertion.'),
  z
    .strictObject({
      client_secret: z.strictObject({
        scrypt: clientSecretHashSchema,
      }),
    })
    .describe('client_secret_basic or client_secret_post; only a slow hash is kept.'),
  z
    .strictObject({
      exec: z.strictObject({
        uid: z.int().nonnegative().describe('The Unix user who starts it with `deputy exec`.'),
        command: z
          .string()
          .startsWith('/')
          .optional()
          .describe(
            'Absolute path of the program, links resolved, that a process must run to call Deputy itself: the started process, or a process that it has started. Credentials that `exec` maps are delivered before the program runs, so the uid is the boundary between programs of one user.',
          ),
        sha256: z
          .string()
          .regex(/^[0-9a-f]{64}$/)
          .optional()
          .describe('SHA-256 of that program, in hex.'),
      }),
    })
    .describe('A stdio server that `deputy exec` has started, which the kernel confirms to be its child.'),
])
export type Attestation = z.output<typeof attestationSchema>

/** https://github.com/modelcontextprotocol/registry/blob/main/docs/reference/server-json/generic-server-json.md */
export const registryNameSchema = z
  .string()
  .min(3)
  .max(200)
  .regex(/^[a-zA-Z0-9.-]+\/[a-zA-Z0-9._-]+$/, "a name is a reverse-DNS name, a slash and the server's own name")

/** In a server's file it stands for all tools that the file does not list by name. */
export const OTHER_TOOLS = '*'

const downstreamUseSchema = z.strictObject({
  scopes: z
    .array(scopeSchema)
    .default([])
    .describe('Scopes that the server may request; further scopes in a request are left out.'),
})

/** `servers/<id>.yaml`: an MCP server, registered. */
export const serverSchema = z.strictObject({
  server: idSchema.describe('The id; it is the `client_id` of the local API.'),
  name: z.string().optional().describe('Name on the consent page.'),
  description: z.string().optional().describe('Purpose of the server.'),
  version: z.string().optional().describe('Version of the server.'),
  published: z
    .strictObject({
      name: registryNameSchema.describe("Name in the registry: a reverse-DNS name, a slash and the server's own name."),
      packages: z
        .array(z.record(z.string(), z.unknown()))
        .default([])
        .describe('Packages of the server, as the registry lists them.'),
    })
    .optional()
    .describe('How the server is listed in the MCP registry; `deputy server export` writes it.'),
  environment: idSchema.optional().describe('Only daemons of this environment see the server; absent: all daemons.'),
  resource: resourceSchema.describe("The server's resource URI: the `aud` that a subject token must have."),
  tenants: tenantsSchema.describe('The tenants whose users it may act for, or "*".'),
  accepted_audiences: z
    .array(
      z.strictObject({
        issuer: urlSchema.describe('The issuer whose tokens it is about: one that a tenant of the server trusts.'),
        audience: z
          .string()
          .max(300)
          .regex(
            /^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[a-z][a-z0-9+.-]*:\/\/[^\s#]+)$/,
            'write a GUID in lower case, or a URI such as api://1111aaaa-22bb-33cc-44dd-555555eeeeee',
          )
          .describe('The `aud` that such a token may have: a GUID, or an `api://` URI.'),
      }),
    )
    .max(20)
    .default([])
    .describe(
      'Values of `aud` that count in place of `resource`, for identity providers that cannot write it, such as Entra ID. A token of that audience is then good for every server that lists it, and for the application of the identity provider itself. Only tokens that name scopes (`scp`, `scope`) count.',
    ),
  sign_in: z
    .enum(['issuer', 'deputy'])
    .default('issuer')
    .describe(
      "Where users of MCP clients sign in. issuer: at the authorization servers of the company, whose tokens the server then receives. deputy: at Deputy, which signs users in at the tenant's identity provider (`sign_in` of the tenant's file) and issues tokens for this server's `resource`.",
    ),
  first_authorization_server: z
    .enum(['issuer', 'deputy'])
    .default('issuer')
    .describe(
      "The authorization server that the server's metadata names first, which MCP clients use. issuer: that of the company, where users sign in. deputy: Deputy, where clients redeem identity assertions of the company (enterprise-managed authorization).",
    ),
  owner: z.string().min(1).describe('The owner, for example an e-mail address.'),
  team: z.string().optional().describe("The owner's team; policies can refer to it."),
  status: z
    .enum(['proposed', 'approved', 'deprecated', 'retired'])
    .default('proposed')
    .describe('A deprecated server works and receives a warning; a proposed or retired server gets no credentials.'),
  replaced_by: idSchema.optional().describe('The server that replaces it.'),
  attest: z
    .array(attestationSchema)
    .default([])
    .describe('Methods by which the server proves its identity; any one is enough.'),
  checks_possession: z
    .boolean()
    .default(false)
    .describe(
      'True: the sender of a token that is bound to a key (`cnf`: DPoP, certificate) has to prove that key to the server. The MCP middleware has Deputy check DPoP proofs; any other server asks Deputy as docs/local-api.md says, or checks by itself. False: Deputy refuses such tokens from the server.',
    ),
  certificate: z
    .string()
    .regex(/^[0-9a-f]{64}$/, 'write the SHA-256 of the certificate in DER, in hex')
    .optional()
    .describe(
      'SHA-256 of the certificate that the server presents to services, for tokens that are bound to it (RFC 8705).',
    ),
  basic_scopes: z
    .array(scopeSchema)
    .default([])
    .describe(
      "Scopes of the user's own token that every use of the server needs. A client requests them first (`scopes_supported` of the server's metadata, and the first 401). Scopes in `requires` of a tool are requested when the tool is called.",
    ),
  authorization_details_types: z
    .array(z.string().min(1).max(200))
    .default([])
    .describe(
      'Types of authorization details (RFC 9396) that the server itself enforces. Identity assertions with details of another type are refused for it.',
    ),
  login_session: z
    .boolean()
    .default(false)
    .describe('True: a stdio server may act for the Unix user that runs it, after that user has run `deputy login`.'),
  exec: execSchema.optional().describe('The credentials that `deputy exec` passes to the server at its start.'),
  apis: z
    .array(
      z.strictObject({
        api: idSchema.describe('The API, a file of the folder apis.'),
        prefix: z
          .string()
          .regex(/^[A-Za-z0-9_.-]{1,32}$/, 'a prefix is 1 to 32 of A-Z, a-z, 0-9, "_", "-" and "."')
          .default('')
          .describe('Prefix of the names of its tools, which keeps those of several APIs apart.'),
      }),
    )
    .max(50)
    .default([])
    .describe(
      'APIs whose tools the server has. Deputy then is the MCP server: it serves the tools at `listen.mcp` and with `deputy mcp`, and no other program may act as the server.',
    ),
  downstreams: z
    .record(idSchema, downstreamUseSchema)
    .default({})
    .describe('Downstreams that the server may use on behalf of users.'),
  service_downstreams: z
    .record(idSchema, downstreamUseSchema)
    .default({})
    .describe('Downstreams that the server may use for itself (client_credentials).'),
  tools: z
    .record(
      z.string().min(1).max(128),
      z.strictObject({
        downstream: idSchema.optional().describe('The one downstream that the tool uses; absent: any.'),
        scopes: z
          .array(scopeSchema)
          .default([])
          .describe('Scopes that the tool needs: a request that names the tool gets no others.'),
        requires: z
          .array(scopeSchema)
          .default([])
          .describe(
            "Scopes that the user's own token must have: a request that names the tool is refused without them, and the middleware for MCP servers asks the client for them. A login session and the server itself have none.",
          ),
        description: z.string().optional().describe('Description of the tool.'),
        deprecated: z
          .boolean()
          .default(false)
          .describe('True: the tool will be removed; `deputy server usage` lists its callers.'),
      }),
    )
    .default({})
    .describe(
      'The tools of the server. If any tool is listed, a request that names another tool is refused, unless the tool `*` states what all other tools get.',
    ),
})
export type Server = z.output<typeof serverSchema>
