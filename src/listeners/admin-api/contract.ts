/**
 * The requests of the admin API. The daemon parses them by these schemas; the CLI writes them by the types, which cost it no
 * loading.
 */
import { z } from 'zod'
import { idSchema, scopeSchema } from '#config'
import { OWN_TENANT } from '#foundation/crypto'
import { type RevocationScope, ROTATION_STATES } from '#foundation/store'
import { scopeOrderSchema } from '#identity/validity'

/** Most rows in one answer, except of the audit log and of rotations. */
export const MAX_ROWS = 1000

const userName = z.string().min(1).max(256)
/** A name that has to be that of something that exists: its form does not matter otherwise. */
const existingName = z.string().min(1).max(256)
const nonNegative = z.coerce.number().int().nonnegative()
const reason = z.string().max(500)

/** `POST /revoke`. */
export const revokeSchema = z.strictObject({
  scope: scopeOrderSchema,
  reason: reason.optional(),
  dry_run: z.boolean().default(false),
  force: z.boolean().default(false),
})
export type RevokeOrder = Omit<z.input<typeof revokeSchema>, 'scope'> & { readonly scope: RevocationScope }

const clientId = z.string().min(1).max(2048)

/** `GET /clients/show`. */
export const clientQuerySchema = z.strictObject({ client: clientId })

/** `POST /clients/approve`. */
export const clientApprovalSchema = z.strictObject({ client: clientId })
export type ClientApprovalOrder = z.input<typeof clientApprovalSchema>

/** `POST /clients/revoke`. */
export const clientRevocationSchema = z.strictObject({
  client: clientId,
  tenant: existingName.optional(),
  reason: reason.optional(),
})
export type ClientRevocationOrder = z.input<typeof clientRevocationSchema>

/** `POST /users/disable`, `POST /users/enable`. */
export const userSchema = z.strictObject({ tenant: existingName, user: userName, force: z.boolean().default(false) })
export type UserOrder = z.input<typeof userSchema>

/** `POST /losses/acknowledge`: the losses that a person has seen, by their ids. */
export const lossesSchema = z.strictObject({ losses: z.array(z.string().min(1).max(256)).min(1).max(MAX_ROWS) })
export type LossesOrder = z.input<typeof lossesSchema>

/** `POST /tenants/freeze`. */
export const freezeSchema = z.strictObject({ tenant: existingName, reason: reason.optional() })
export type FreezeOrder = z.input<typeof freezeSchema>

/** `POST /tenants/thaw`. */
export const thawSchema = z.strictObject({ tenant: existingName })

/** `POST /secrets`. */
export const secretSchema = z.strictObject({ tenant: idSchema, name: idSchema, value: z.string().min(1).max(65_536) })
export type SecretOrder = z.input<typeof secretSchema>

/** `POST /secrets/remove`. */
export const secretNameSchema = z.strictObject({ tenant: existingName, name: existingName })
export type SecretNameOrder = z.input<typeof secretNameSchema>

/** `POST /keys/rotate`. */
export const keyRotationSchema = z.strictObject({ keys: z.enum(['key-encryption', 'signing']) })
export type RotatedKeys = z.output<typeof keyRotationSchema>['keys']
export type KeyRotationOrder = z.input<typeof keyRotationSchema>

/** `GET /audit`. */
export const auditQuerySchema = z.strictObject({
  id: z.string().max(128).optional(),
  event: existingName.optional(),
  outcome: existingName.optional(),
  tenant: existingName.optional(),
  user: userName.optional(),
  server: existingName.optional(),
  downstream: existingName.optional(),
  node: idSchema.or(z.literal('*')).optional(),
  since: nonNegative.optional(),
  until: nonNegative.optional(),
  after: nonNegative.optional(),
  limit: nonNegative.max(10_000).default(100),
  last: z.stringbool().default(false),
})

/** `GET /audit/export`. */
export const exportQuerySchema = z.strictObject({ node: idSchema.optional() })

/** `POST /audit/prune`. */
export const pruneSchema = z.strictObject({
  /** Records that are older leave (ms); at least 7 days. Default: by `audit.retention`. */
  older_than: z.int().min(604_800_000, 'keep audit records for 7d at least').optional(),
})
export type PruneOrder = z.input<typeof pruneSchema>

/** `POST /backup`. */
export const backupSchema = z.strictObject({ id: z.uuid() })
export type BackupAnnouncement = z.input<typeof backupSchema>

/** `POST /audit/acknowledge`. */
export const acknowledgeSchema = z.strictObject({ reason: z.string().min(1).max(500) })
export type AcknowledgeOrder = z.input<typeof acknowledgeSchema>

/** `GET /grants`, `GET /leases`, `GET /consents`. */
export const grantQuerySchema = z.strictObject({
  tenant: idSchema.optional(),
  user: userName.optional(),
  server: idSchema.optional(),
  downstream: idSchema.optional(),
  provider: idSchema.optional(),
  id: z.string().max(128).optional(),
  after: z.string().max(128).optional(),
  limit: nonNegative.max(MAX_ROWS).default(MAX_ROWS),
})

/** `GET /usage`. */
export const usageQuerySchema = z.strictObject({ days: nonNegative.min(1).max(3650).default(90) })

/**
 * `POST /policy/explain`: would this user, through this server, receive that credential? Or would the client get a
 * token for the server?
 */
export const policyQuestionSchema = z.strictObject({
  server: idSchema,
  tenant: idSchema,
  user: z.string().min(1).max(256).optional(),
  /** In place of a user. */
  agent: idSchema.optional(),
  groups: z.array(z.string()).default([]),
  claims: z.record(z.string(), z.unknown()).default({}),
  /** Absent where the question is about the sign-in. */
  downstream: z.string().min(1).optional(),
  /** Whether the user may sign in at `client` for `server`. */
  sign_in: z.boolean().optional(),
  scopes: z.array(scopeSchema).optional(),
  tool: z.string().optional(),
  acr: z.string().optional(),
  client: clientId.optional(),
  time: z.iso.datetime().optional(),
})
export type PolicyQuestion = z.input<typeof policyQuestionSchema>

/** A secret that rotates: `POST /rotations/resume`, `retry`, `rollback`. Deputy's own keys are under a tenant that no file can name. */
export const rotatedSecretSchema = z.strictObject({
  tenant: idSchema.or(z.literal(OWN_TENANT)),
  backend: idSchema.default('embedded'),
  secret: z.string().min(1).max(256),
})
export type RotatedSecretOrder = z.input<typeof rotatedSecretSchema>

/** `POST /rotations/run`, `POST /rotations/pause`. */
export const rotationOrderSchema = rotatedSecretSchema.extend({ reason: z.string().min(1).max(200) })
export type RotationOrder = z.input<typeof rotationOrderSchema>

/** `GET /rotations`. */
export const rotationQuerySchema = z.strictObject({
  tenant: idSchema.optional(),
  backend: idSchema.optional(),
  secret: z.string().max(256).optional(),
  policy: idSchema.optional(),
  state: z.enum(ROTATION_STATES).optional(),
  limit: z.coerce.number().int().min(1).max(10_000).default(100),
})

/** `POST /rotations/event`. */
export const rotationEventSchema = z
  .strictObject({
    event: z.enum(['leak', 'owner_left']),
    tenant: idSchema.optional(),
    secret: z.string().max(256).optional(),
    owner: z.string().max(256).optional(),
  })
  .refine(
    ({ tenant, secret, owner }) => tenant !== undefined || secret !== undefined || owner !== undefined,
    'name what it is about: tenant, secret or owner',
  )

/** `GET /rotations/plan`. */
export const rotationPlanSchema = z.strictObject({ days: z.coerce.number().int().min(1).max(366).default(30) })
