import ipaddr from 'ipaddr.js'
import { z } from 'zod'

/** A name that may stand in keys, file names and audit records: lower-case letters, digits, `-`, `_` and `.`. */
export const idSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, 'use 1 to 63 of a-z, 0-9, ".", "_" and "-", starting with a letter or digit')

const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const

/** A length of time such as `500ms`, `90s`, `15m`, `12h` or `30d`; parsed to milliseconds. */
export const durationSchema = z
  .string({ error: 'write a length of time such as 500ms, 90s, 15m, 12h or 30d' })
  .regex(/^\d{1,9}(ms|s|m|h|d)$/, 'write a length of time such as 500ms, 90s, 15m, 12h or 30d')
  .transform((text) => {
    const unit = /[a-z]+$/.exec(text)?.[0] as keyof typeof UNITS
    return Number.parseInt(text, 10) * UNITS[unit]
  })

/** The longest time that a timer of Node can wait (ms): about 24.8 days. */
const MAX_TIMER_MS = 2_147_483_647

/** A length of time that something is waited for: never none, and never more than a timer can wait. */
export const timeoutSchema = durationSchema.refine(
  (time) => time >= 1 && time <= MAX_TIMER_MS,
  'write a length of time from 1ms to 24d',
)

/** How long a disk or a database may take: below this limit a healthy one would count as unavailable, and nothing would be handed out. */
export const writeTimeoutSchema = timeoutSchema.refine(
  (time) => time >= 100,
  'write a length of time of at least 100ms',
)

/** No lease of a node is longer (ms): the settings allow none, and the store believes none. */
export const MAX_LEASE_MS = 300_000

/** A length of time of which a timer may wait all, or none. */
export const pauseSchema = durationSchema.refine(
  (time) => time <= MAX_TIMER_MS,
  'write a length of time of at most 24d',
)

/** How long a credential is good for. One of less than a second is read anew for each request. */
export const lifetimeSchema = durationSchema.refine(
  (time) => time >= 1 && time <= 366 * UNITS.d,
  'write a length of time from 1ms to 366d',
)

/** A scope token of RFC 6749 section 3.3. */
export const scopeSchema = z
  .string()
  .regex(/^[\x21\x23-\x5B\x5D-\x7E]{1,256}$/, 'a scope is printable ASCII without space, quote and backslash')

/** A token type identifier (RFC 8693 section 3). */
export const tokenTypeSchema = z
  .string()
  .regex(/^urn:[\x21-\x7e]{1,200}$/, 'write a URI such as urn:ietf:params:oauth:token-type:access_token')

/**
 * A region of AWS, of any partition
 * (https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html), such as
 * eusc-de-east-1 of the European sovereign cloud.
 */
export const awsRegionSchema = z
  .string()
  .regex(/^[a-z]{2,8}(-[a-z]{1,16}){1,3}-\d{1,2}$/, 'write a region such as eu-central-1')

/** https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html */
export const awsRoleSchema = z
  .string()
  .regex(/^arn:aws[a-z-]*:iam::\d{12}:role\/[\w+=,.@/-]{1,576}$/, 'write the ARN of a role')
export const awsExternalIdSchema = z.string().regex(/^[\w+=,.@:/-]{2,1224}$/, 'write an external id of AWS')

/** An http(s) URL without user, password or fragment. */
export const urlSchema = z.string().refine((text) => {
  const url = URL.parse(text)
  return (
    url !== null &&
    (url.protocol === 'https:' || url.protocol === 'http:') &&
    url.username === '' &&
    url.password === '' &&
    !text.includes('#')
  )
}, 'write an http or https URL without user, password and fragment')

/** A resource identifier (RFC 8707 section 2): an absolute URI without fragment. */
export const resourceSchema = z
  .string()
  .max(2048)
  .refine((text) => URL.canParse(text) && !text.includes('#'), 'write an absolute URI without fragment')

/** `host:port` on which Deputy listens. Only loopback addresses are possible where this is used for the local API. */
export const listenAddressSchema = z
  .string()
  .regex(/^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}$/, 'write host:port, for example 127.0.0.1:7880')
  .transform((text) => {
    const at = text.lastIndexOf(':')
    return { host: text.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(text.slice(at + 1)) }
  })
  .refine(({ port }) => port <= 65_535, 'a port is at most 65535')
export type ListenAddress = z.output<typeof listenAddressSchema>

/** An address range in CIDR notation. */
export const rangeSchema = z
  .string()
  .refine((text) => ipaddr.isValidCIDR(text), 'write an address range such as 10.0.0.0/8 or fd00::/8')

export const fileModeSchema = z
  .string({ error: 'write a file mode in octal, in quotes: "0660"' })
  .regex(/^0[0-7]{3}$/, 'write a file mode in octal, in quotes: "0660"')
  .transform((text) => Number.parseInt(text, 8))

const fileReference = z.strictObject({ file: z.string().min(1) })
const variableReference = z.strictObject({ env: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/) })

/** Where a secret of the daemon itself is kept: a file of mode 0600, or an environment variable. */
export const localReferenceSchema = z.union([fileReference, variableReference])
export type LocalReference = z.output<typeof localReferenceSchema>

/** Where a secret value is kept: the tenant's secret of that name in a backend, a file of mode 0600, or an environment variable. */
export const secretReferenceSchema = z.union(
  [z.strictObject({ secret: idSchema, backend: idSchema.default('embedded') }), fileReference, variableReference],
  { error: 'write a secret reference, such as { file: secrets/sign-in }' },
)
export type SecretReference = z.output<typeof secretReferenceSchema>

/** Whether it is meant for daemons of an environment: it names that one, or none. */
export const isOfEnvironment = ({ environment }: { readonly environment?: string | undefined }, of: string): boolean =>
  environment === undefined || environment === of

/** Every tenant, or the tenants named. */
export const tenantsSchema = z.union([z.literal('*'), z.array(idSchema).min(1)])
export const servesTenant = (tenants: z.output<typeof tenantsSchema>, tenant: string): boolean =>
  tenants === '*' || tenants.includes(tenant)
