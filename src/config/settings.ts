import { z } from 'zod'
import { keyEncryptionSchema } from './key-encryption.ts'
import { secretBackendSchema } from './secret-backends.ts'
import { clientTlsSchema, tlsSchema } from './tls.ts'
import {
  lifetimeSchema,
  pauseSchema,
  timeoutSchema,
  writeTimeoutSchema,
  LONGEST_LEASE_MS,
  fileModeSchema,
  idSchema,
  listenAddressSchema,
  localReferenceSchema,
  rangeSchema,
  urlSchema,
} from './values.ts'

/** The file of the settings in the configuration folder. */
export const SETTINGS_FILE = 'deputy.yaml'

const rateSchema = z
  .strictObject({
    requests: z.int().min(1).describe('So many requests.'),
    per: timeoutSchema
      .refine((per) => per >= 1000 && per % 1000 === 0, 'write whole seconds')
      .default(1000)
      .describe('In this time, in whole seconds.'),
  })
  .nullable()
  .default(null)
export type Rate = NonNullable<z.output<typeof rateSchema>>

/** `login.example.com`, `login.example.com:8443`, as `host` of a URL has it. */
const hostSchema = z
  .string()
  .refine(
    (text) => URL.parse(`https://${text}/`)?.host === text.toLowerCase(),
    'write a host name, with a port if it is not 443',
  )
const originSchema = urlSchema.refine(
  (text) => URL.parse(text)?.origin === text.replace(/\/$/, ''),
  'write an origin: https, a host and perhaps a port, without a path',
)

/** `deputy.yaml`: the daemon itself. Relative paths are relative to the folder that the file is in. */
export const settingsSchema = z.strictObject({
  environment: idSchema
    .default('production')
    .describe(
      'The environment that this daemon serves; servers and downstreams of another environment are not visible to it.',
    ),
  issuer: urlSchema
    .default('http://127.0.0.1:7880')
    .describe(
      'The issuer identifier (RFC 8414) that stands as `iss` in minted tokens. Use the public URL of the connect pages.',
    ),
  listen: z
    .strictObject({
      socket: z.string().default('run/deputy.sock').describe('Unix socket of the local API.'),
      socket_mode: fileModeSchema
        .default(0o600)
        .describe('File mode of that socket; "0660" together with `socket_group` opens it to a group.'),
      socket_group: z.int().nonnegative().optional().describe('Numeric group id that owns the socket.'),
      admin: z.string().default('run/admin.sock').describe('Unix socket of the admin API; always mode 0600.'),
      tcp: listenAddressSchema
        .nullable()
        .default(null)
        .describe('Loopback address of the local API over TCP, or null for none.'),
      proxy: listenAddressSchema
        .nullable()
        .default(null)
        .describe('Loopback address of the injecting proxy, or null for none.'),
      proxy_socket: z
        .union([z.string().min(1), z.null()])
        .optional()
        .describe(
          'Unix socket of the injecting proxy, with the mode and group of `socket`, or null for none. Default: proxy.sock in the folder of `socket`.',
        ),
      connect: listenAddressSchema
        .default({ host: '127.0.0.1', port: 7880 })
        .describe('Address of the connect pages that users open in a browser.'),
      postgres: z
        .string()
        .min(1)
        .nullable()
        .default(null)
        .describe(
          'Folder of a Unix socket at which programs reach the PostgreSQL servers of downstreams without a password, or null for none. It has the mode and group of the local API.',
        ),
      redis: z
        .string()
        .min(1)
        .nullable()
        .default(null)
        .describe('Folder of Unix sockets, one for each downstream with a Redis server, or null for none.'),
      metrics: listenAddressSchema
        .nullable()
        .default(null)
        .describe('Loopback address of the Prometheus endpoint, or null for none.'),
    })
    .prefault({})
    .describe('Where Deputy listens.'),
  connect_url: urlSchema
    .optional()
    .describe(
      'Public URL of the connect pages when a reverse proxy stands before them. Default: http:// and the address in listen.connect.',
    ),
  node: z
    .union([idSchema, z.strictObject({ env: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/) })])
    .default('local')
    .describe(
      'Name of this node, or the environment variable that has it: of its chain of audit records and of its login sessions. With a shared store each node needs its own.',
    ),
  sign_in: z
    .strictObject({
      session_lifetime: lifetimeSchema
        .default(30 * 86_400_000)
        .describe('How long a client may refresh its tokens before the user has to sign in again.'),
      refresh_lifetime: lifetimeSchema
        .default(7 * 86_400_000)
        .describe('How long a refresh token counts that is not used.'),
    })
    .prefault({})
    .describe('Sign-in of users at MCP clients, for servers with `sign_in: deputy`.'),
  store: z
    .union([
      z.literal('embedded'),
      z.strictObject({
        postgres: z.strictObject({
          host: z
            .string()
            .min(1)
            .regex(/^[^,\s]+$/, {
              error:
                'Deputy connects to one address, and takes no list of hosts and no target_session_attrs: name the address that always leads to the primary (a service, a virtual address, a pooler, the writer endpoint of a managed server; docs/cluster.md).',
            })
            .describe('Host name or address of the primary: one that follows it in a fail-over, not a list.'),
          port: z.int().min(1).max(65_535).default(5432).describe('Port.'),
          database: z.string().min(1).default('deputy').describe('Name of the database.'),
          user: z.string().min(1).default('deputy').describe('Postgres user.'),
          password: localReferenceSchema
            .optional()
            .describe('File of mode 0600 or environment variable with the password.'),
          tls: tlsSchema,
          pool: z.int().min(2).max(500).default(10).describe('Connections at most.'),
          deadline: writeTimeoutSchema
            .default(2000)
            .describe('How long the server may take to answer; at least 100ms.'),
        }),
      }),
    ])
    .default('embedded')
    .describe('Where the state is: in the state folder, for one node, or in Postgres, for many.'),
  cluster: z
    .strictObject({
      lease: timeoutSchema
        .refine((time) => time <= LONGEST_LEASE_MS, 'write a length of time of at most 5m')
        .default(2000)
        .describe(
          'How long a node serves without having heard from the shared store; a revocation waits at most so long, and the skew, for a node that is cut off.',
        ),
      skew: pauseSchema
        .default(500)
        .describe(
          'How far the clocks of nodes and store may be apart; a node whose clock is further off does not serve.',
        ),
    })
    .prefault({})
    .describe('How nodes on one store keep in step.'),
  keys: z
    .string()
    .optional()
    .describe(
      "Folder of the tenants' wrapped data keys; nodes on one store share it. Default: keys in the folder of `state`. Back it up apart from the store, or a destroyed key comes back.",
    ),
  state: z.string().default('state').describe('Folder of the embedded store and the keys; mode 0700.'),
  kek: keyEncryptionSchema
    .default({ file: 'state/kek' })
    .describe('The key-encryption key: a file of mode 0600, an environment variable, or a key in Vault or AWS KMS.'),
  kek_earlier: z
    .array(keyEncryptionSchema)
    .default([])
    .describe(
      'Key-encryption keys that wrapped data keys before; after `deputy key rotate` none of them is needed any more.',
    ),
  policies: z.string().default('policies').describe('Folder of the policies; access/*.cedar in it decides.'),
  audit: z
    .strictObject({
      deadline: writeTimeoutSchema
        .default(2000)
        .describe('How long a sink may take to confirm a record before the request is refused; at least 100ms.'),
      checkpoint_every: z
        .int()
        .min(1)
        .default(1000)
        .describe('A signed checkpoint is written after this many records.'),
      files: z
        .array(z.strictObject({ path: z.string() }))
        .default([])
        .describe('JSON-lines files that receive every record as well.'),
    })
    .prefault({})
    .describe('The audit log; the embedded store is its first sink.'),
  cache: z
    .strictObject({
      entries: z
        .int()
        .min(1)
        .max(1_000_000)
        .default(20_000)
        .describe('How many credentials the process cache holds at most.'),
      redis: z
        .strictObject({
          mode: z
            .enum(['single', 'sentinel', 'cluster'])
            .default('single')
            .describe('One server, servers watched by Sentinel, or a Redis Cluster.'),
          nodes: z
            .array(listenAddressSchema)
            .min(1)
            .describe('Host and port of the server, of the sentinels, or of some nodes of the Cluster.'),
          master: z.string().min(1).default('mymaster').describe('The name under which the sentinels know the master.'),
          username: z.string().min(1).optional().describe('Redis user.'),
          password: localReferenceSchema
            .optional()
            .describe('File of mode 0600 or environment variable with the password.'),
          tls: clientTlsSchema,
          sentinel: z
            .strictObject({
              username: z.string().min(1).optional().describe('User at the sentinels.'),
              password: localReferenceSchema
                .optional()
                .describe('File of mode 0600 or environment variable with the password at the sentinels.'),
              tls: clientTlsSchema,
            })
            .optional()
            .describe(
              'How the sentinels themselves are reached (`mode: sentinel`). Absent: without a login and without TLS.',
            ),
          deadline: timeoutSchema
            .default(250)
            .describe('How long Redis may take to answer before the daemon goes on without it.'),
        })
        .refine(({ mode, sentinel }) => sentinel === undefined || mode === 'sentinel', {
          path: ['sentinel'],
          error: 'only `mode: sentinel` has sentinels',
        })
        .nullable()
        .default(null)
        .describe(
          "Redis, in which nodes share the credentials that they fetched, encrypted under the tenant's data key; or null.",
        ),
    })
    .prefault({})
    .describe('Caches of credentials.'),
  secrets: z
    .strictObject({
      backends: z
        .record(idSchema, secretBackendSchema)
        .default({})
        .describe(
          "Vaults in which tenants' secrets are kept, by the id that other files name them with; `embedded` is there without being listed.",
        ),
    })
    .prefault({})
    .describe('Backends of secrets (read at start).'),
  rotation: z
    .strictObject({
      commands: z
        .record(
          idSchema,
          z.strictObject({
            program: z.string().regex(/^\//, 'write an absolute path').describe('The program.'),
            args: z.array(z.string()).default([]).describe('Its arguments; secrets come on standard input.'),
            timeout: timeoutSchema.default(30_000).describe('How long one step may take.'),
          }),
        )
        .default({})
        .describe('Programs that rotation policies may name, and no others.'),
    })
    .prefault({})
    .describe('Rotation of secrets; the policies are under policies/rotation.'),
  tokens: z
    .strictObject({
      lifetime: lifetimeSchema
        .refine((time) => time >= 1000, 'write a length of time from 1s: tokens count in whole seconds')
        .default(300_000)
        .describe('Longest life of a minted token.'),
      status_list: z
        .boolean()
        .default(true)
        .describe(
          'Whether minted tokens name a status list (published under /status on the connect address), by which services that verify tokens by themselves find out about revocations.',
        ),
      dpop_nonce: z
        .boolean()
        .default(false)
        .describe("Whether a DPoP proof has to carry a nonce of Deputy's, so that none can be made ahead of time."),
      signing_key_lifetime: lifetimeSchema
        .default(30 * 86_400_000)
        .describe(
          'How long a signing key signs before the next one takes over; it stays published until the last token it signed has expired.',
        ),
    })
    .prefault({})
    .describe('Tokens that Deputy signs.'),
  limits: z
    .strictObject({
      body_bytes: z.int().min(1024).default(65_536).describe('Largest request body.'),
      header_timeout: timeoutSchema.default(5000).describe('How long a client may take to send the headers.'),
      request_timeout: timeoutSchema.default(10_000).describe('How long a client may take to send the whole request.'),
      shutdown_delay: pauseSchema
        .default(0)
        .describe(
          'How long the daemon goes on serving after SIGTERM while it says that it is not ready, so that a load balancer can look elsewhere first.',
        ),
      drain: pauseSchema.default(10_000).describe('How long requests under way may finish after SIGTERM.'),
    })
    .refine(({ header_timeout: headers, request_timeout: whole }) => headers <= whole, {
      path: ['header_timeout'],
      error: 'it is longer than request_timeout, which is for the headers and the body together',
    })
    .prefault({})
    .describe('What a client may cost.'),
  rates: z
    .strictObject({
      server: rateSchema.describe('What one MCP server may ask, or null.'),
      tenant: rateSchema.describe('What may be asked for one tenant.'),
      user: rateSchema.describe('What may be asked for one user.'),
      downstream: rateSchema.describe('What may be asked for one downstream by one tenant.'),
      client: rateSchema.describe('What one MCP client may redeem: identity assertions, good and bad ones.'),
    })
    .prefault({})
    .describe(
      'Rates of token requests; what is over them is answered with 429 and Retry-After. Counted over all nodes where there is a Redis, else on each.',
    ),
  network: z
    .strictObject({
      allow_loopback: z
        .boolean()
        .default(false)
        .describe('Development only: identity providers and services may be on loopback and speak plain http.'),
      allow_private: z
        .array(rangeSchema)
        .default([])
        .describe(
          'Private address ranges (CIDR) in which identity providers and services may be. Cloud metadata addresses stay refused.',
        ),
      hosts: z
        .array(
          z.strictObject({
            host: hostSchema.describe(
              'Host of an identity provider or service as its URLs have it, with the port where that is not 443.',
            ),
            at: originSchema
              .optional()
              .describe(
                'Origin at which Deputy itself reaches it, for example `https://keycloak.auth.svc:8443`, where the public address leads only browsers there. The certificate has to be for that name.',
              ),
            ca: z
              .string()
              .min(1)
              .optional()
              .describe(
                'PEM file with a private certificate authority, which counts for this host alone, beside those of the system.',
              ),
          }),
        )
        .refine(
          (hosts) => new Set(hosts.map(({ host }) => host.toLowerCase())).size === hosts.length,
          'name each host once, with its `at` and its `ca` together',
        )
        .default([])
        .describe('Hosts that are not reached as the public network has them. Read when the daemon starts.'),
      timeout: timeoutSchema.default(5000).describe('How long an identity provider or service may take to answer.'),
    })
    .prefault({})
    .describe('Requests that Deputy sends.'),
  proxy: z
    .strictObject({
      answer: timeoutSchema.default(300_000).describe('How long a service may take to begin its answer.'),
      idle: timeoutSchema
        .default(300_000)
        .describe('How long nothing may come or go in the middle of a request, an answer or a WebSocket.'),
    })
    .prefault({})
    .describe('The injecting proxy.'),
  telemetry: z
    .strictObject({
      otlp: urlSchema
        .nullable()
        .default(null)
        .describe('OTLP/HTTP collector, for example http://127.0.0.1:4318, or null.'),
      tenant_label: z.boolean().default(false).describe('Whether metrics carry the tenant as a label.'),
    })
    .prefault({})
    .describe('Metrics and traces (OpenTelemetry).'),
  log: z
    .strictObject({
      level: z
        .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal'])
        .default('info')
        .describe('Lowest level that is logged.'),
    })
    .prefault({})
    .describe('The log, JSON lines on standard output.'),
})
export type Settings = z.output<typeof settingsSchema>
