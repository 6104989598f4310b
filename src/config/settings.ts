import { z } from 'zod'
import { auditSinksSchema } from './audit-sinks.ts'
import { clientSettingsSchema } from './client-settings.ts'
import { keyEncryptionSchema } from './key-encryption.ts'
import { secretBackendSchema } from './secret-backends.ts'
import { clientTlsSchema } from './tls.ts'
import {
  durationSchema,
  lifetimeSchema,
  pauseSchema,
  timeoutSchema,
  writeTimeoutSchema,
  MAX_LEASE_MS,
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
    requests: z.int().min(1).describe('Number of requests.'),
    per: timeoutSchema
      .refine((per) => per >= 1000 && per % 1000 === 0, 'write whole seconds')
      .default(1000)
      .describe('Period of time, in whole seconds.'),
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
      'The issuer identifier (RFC 8414), which is `iss` of minted tokens. Use the public URL of the connect pages.',
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
      mcp: listenAddressSchema
        .nullable()
        .default(null)
        .describe(
          'Address at which Deputy serves the tools of APIs to MCP clients (servers with `apis`), or null for none. On a network, put a reverse proxy with TLS before it.',
        ),
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
      'Public URL of the connect pages behind a reverse proxy. Default: http:// and the address in listen.connect.',
    ),
  node: z
    .union([idSchema, z.strictObject({ env: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/) })])
    .default('local')
    .describe(
      'Name of this node, or the environment variable that holds it. The audit chain and the login sessions of the node have this name. With a shared store each node needs its own.',
    ),
  sign_in: z
    .strictObject({
      session_lifetime: lifetimeSchema
        .default(30 * 86_400_000)
        .describe('How long a client may refresh its tokens before the user has to sign in again.'),
      refresh_lifetime: lifetimeSchema.default(7 * 86_400_000).describe('How long an unused refresh token is valid.'),
    })
    .prefault({})
    .describe('Sign-in of users at MCP clients, for servers with `sign_in: deputy`.'),
  clients: clientSettingsSchema,
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
            .describe('Host name or address of the primary: one name that follows a fail-over, not a list.'),
          port: z.int().min(1).max(65_535).default(5432).describe('Port.'),
          database: z.string().min(1).default('deputy').describe('Name of the database.'),
          user: z.string().min(1).default('deputy').describe('Postgres user.'),
          password: localReferenceSchema
            .optional()
            .describe('File of mode 0600 or environment variable with the password.'),
          tls: clientTlsSchema,
          pool: z.int().min(2).max(500).default(10).describe('Maximum number of connections.'),
          deadline: writeTimeoutSchema
            .default(2000)
            .describe('Time limit for an answer of the server; at least 100ms.'),
        }),
      }),
    ])
    .default('embedded')
    .describe('Where Deputy stores its state: in the state folder for one node, or in Postgres for several nodes.'),
  cluster: z
    .strictObject({
      lease: timeoutSchema
        .refine((time) => time <= MAX_LEASE_MS, 'write a length of time of at most 5m')
        .default(2000)
        .describe(
          'How long a node serves without contact to the shared store; a revocation waits at most this long, plus the skew, for a node that is cut off.',
        ),
      skew: pauseSchema
        .default(500)
        .describe(
          'Maximum difference between the clocks of the nodes and the store; a node whose clock differs more does not serve.',
        ),
    })
    .prefault({})
    .describe('Coordination of the nodes on one store.'),
  keys: z
    .string()
    .optional()
    .describe(
      "Folder of the tenants' wrapped data keys; nodes on one store share it. Default: keys in the folder of `state`. Back it up separately from the store: restoring both together would bring back a destroyed key.",
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
        .describe('Time limit for a sink to confirm a record before the request is refused; at least 100ms.'),
      checkpoint_every: z
        .int()
        .min(1)
        .default(1000)
        .describe('A signed checkpoint is written after this many records.'),
      segment: z
        .strictObject({
          size: z
            .int()
            .min(65_536)
            .max(1_073_741_824)
            .default(67_108_864)
            .describe('Bytes after which a file of the log is sealed and the next one begun; embedded store only.'),
          age: durationSchema
            .default(86_400_000)
            .describe('Age after which it is sealed, by the first record after that.'),
        })
        .prefault({})
        .describe('The files that the log is kept in, in the folder `audit` of the state folder.'),
      retention: z
        .strictObject({
          age: durationSchema
            .refine((ms) => ms >= 604_800_000, 'keep audit records for 7d at least')
            .optional()
            .describe('Records of a sealed file leave so long after it was sealed; at least 7d.'),
          size: z
            .int()
            .min(1_048_576)
            .optional()
            .describe('The oldest records leave when the sealed files have more bytes than this.'),
        })
        .prefault({})
        .describe(
          'When audit records of the embedded store leave; default: never. Their footers stay, and no record leaves before every sink has it.',
        ),
      files: z
        .array(z.strictObject({ path: z.string() }))
        .default([])
        .describe('JSON-lines files that also receive every record; nothing is issued until they have it.'),
      sinks: auditSinksSchema.describe('Other places that receive every record (docs/audit-sinks.md).'),
    })
    .superRefine(({ deadline, sinks }, context) => {
      for (const [at, sink] of sinks.entries())
        // Segments cannot be required, which is a problem of its own; their default deadline is longer.
        if (sink.kind !== 'segments' && sink.required && sink.deadline !== undefined && sink.deadline > deadline)
          context.addIssue({
            code: 'custom',
            path: ['sinks', at, 'deadline'],
            message:
              'it is longer than audit.deadline, after which callers are refused: write a shorter one, or raise audit.deadline',
          })
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
        .describe('Maximum number of credentials in the cache of the process.'),
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
              'Connection to the sentinels themselves (`mode: sentinel`). Absent: without a login and without TLS.',
            ),
          deadline: timeoutSchema
            .default(250)
            .describe('Time limit for an answer of Redis; after it the daemon continues without Redis.'),
        })
        .refine(({ mode, sentinel }) => sentinel === undefined || mode === 'sentinel', {
          path: ['sentinel'],
          error: 'only `mode: sentinel` has sentinels',
        })
        .nullable()
        .default(null)
        .describe("Redis in which nodes share fetched credentials, encrypted with the tenant's data key; or null."),
    })
    .prefault({})
    .describe('Caches of credentials.'),
  secrets: z
    .strictObject({
      backends: z
        .record(idSchema, secretBackendSchema)
        .default({})
        .describe(
          "Backends that store the tenants' secrets, by the id that other files use; `embedded` always exists and is not listed.",
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
            args: z
              .array(z.string())
              .default([])
              .describe('Arguments of the program; secrets are passed on standard input.'),
            timeout: timeoutSchema.default(30_000).describe('Time limit of one step.'),
          }),
        )
        .default({})
        .describe('The only programs that rotation policies may name.'),
    })
    .prefault({})
    .describe('Rotation of secrets; the policies are under policies/rotation.'),
  tokens: z
    .strictObject({
      lifetime: lifetimeSchema
        .refine((time) => time >= 1000, 'write a length of time from 1s: tokens count in whole seconds')
        .default(300_000)
        .describe('Longest lifetime of a minted token.'),
      status_list: z
        .boolean()
        .default(true)
        .describe(
          'Whether minted tokens name a status list (published under /status on the connect address), from which services that verify tokens themselves learn of revocations.',
        ),
      dpop_nonce: z
        .boolean()
        .default(false)
        .describe(
          'Whether a DPoP proof must contain a nonce of Deputy, so that proofs cannot be prepared ahead of time.',
        ),
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
      header_timeout: timeoutSchema.default(5000).describe('Time limit for a client to send the headers.'),
      request_timeout: timeoutSchema.default(10_000).describe('Time limit for a client to send the whole request.'),
      shutdown_delay: pauseSchema
        .default(0)
        .describe(
          'How long the daemon continues to serve after SIGTERM while it reports that it is not ready, so that a load balancer first sends requests elsewhere.',
        ),
      drain: pauseSchema.default(10_000).describe('Time limit for open requests to finish after SIGTERM.'),
    })
    .refine(({ header_timeout: headers, request_timeout: whole }) => headers <= whole, {
      path: ['header_timeout'],
      error: 'it is longer than request_timeout, which is for the headers and the body together',
    })
    .prefault({})
    .describe('Limits for each client.'),
  rates: z
    .strictObject({
      server: rateSchema.describe('Requests of one MCP server, or null.'),
      tenant: rateSchema.describe('Requests for one tenant.'),
      user: rateSchema.describe('Requests for one user.'),
      downstream: rateSchema.describe('Requests of one tenant for one downstream.'),
      client: rateSchema.describe('Identity assertions that one MCP client redeems, valid and invalid ones.'),
      new_clients_by_address: rateSchema
        .default({ requests: 60, per: 3_600_000 })
        .describe('MCP clients that Deputy has not met before, from one address: registrations and documents.'),
      new_clients: rateSchema
        .default({ requests: 600, per: 3_600_000 })
        .describe('MCP clients that Deputy has not met before, from all addresses.'),
      sign_ins_by_address: rateSchema
        .default({ requests: 600, per: 60_000 })
        .describe('Sign-ins at MCP clients that begin, from one address.'),
      sign_ins: rateSchema
        .default({ requests: 6000, per: 60_000 })
        .describe('Sign-ins at MCP clients that begin, from all addresses.'),
      device_codes_by_address: rateSchema
        .default({ requests: 60, per: 60_000 })
        .describe('Device codes that are requested, and codes that are typed, from one address.'),
      device_codes: rateSchema
        .default({ requests: 600, per: 60_000 })
        .describe('Device codes that are requested, and codes that are typed, from all addresses.'),
    })
    .prefault({})
    .describe(
      'Rate limits; requests above them are answered with 429 and Retry-After. Counted across all nodes with a Redis, otherwise on each node.',
    ),
  network: z
    .strictObject({
      allow_loopback: z
        .boolean()
        .default(false)
        .describe('Development only: identity providers and services may use loopback addresses and plain http.'),
      allow_private: z
        .array(rangeSchema)
        .default([])
        .describe(
          'Private address ranges (CIDR) that identity providers and services may use. Cloud metadata addresses are always refused.',
        ),
      hosts: z
        .array(
          z.strictObject({
            host: hostSchema.describe(
              'Host of an identity provider or service as in its URLs, with the port if it is not 443.',
            ),
            at: originSchema
              .optional()
              .describe(
                'Origin at which Deputy reaches it, for example `https://keycloak.auth.svc:8443`, where only browsers use the public address. The certificate must be for that name.',
              ),
            ca: z
              .string()
              .min(1)
              .optional()
              .describe(
                'PEM file with a private certificate authority, which is trusted for this host only, in addition to those of the system.',
              ),
          }),
        )
        .refine(
          (hosts) => new Set(hosts.map(({ host }) => host.toLowerCase())).size === hosts.length,
          'name each host once, with its `at` and its `ca` together',
        )
        .default([])
        .describe(
          'Hosts that Deputy reaches at another address or with a private certificate authority. Read when the daemon starts.',
        ),
      timeout: timeoutSchema.default(5000).describe('Time limit for an answer of an identity provider or service.'),
    })
    .prefault({})
    .describe('Outgoing requests of Deputy.'),
  proxy: z
    .strictObject({
      answer: timeoutSchema.default(300_000).describe('Time limit for a service to begin its answer.'),
      idle: timeoutSchema.default(300_000).describe('Longest pause within a request, an answer or a WebSocket.'),
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
