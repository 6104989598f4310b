import { Cron } from 'croner'
import { z } from 'zod'
import { durationSchema, idSchema, secretReferenceSchema, tenantsSchema, urlSchema } from './values.ts'
import { rotatorSchema } from './rotators.ts'

const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const
export type Day = (typeof DAYS)[number]

const zoneSchema = z.string().refine((zone) => {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: zone }).resolvedOptions().timeZone !== ''
  } catch {
    return false
  }
}, 'write a time zone such as Europe/Berlin or UTC')
const clockSchema = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/, 'write a time of day such as 02:30')
const cronSchema = z.string().refine((pattern) => {
  try {
    new Cron(pattern, { paused: true }).stop()
    return true
  } catch {
    return false
  }
}, 'write a cron pattern of five fields such as 0 3 * * 1')

const windowSchema = z
  .strictObject({
    days: z
      .array(z.enum(DAYS))
      .min(1)
      .default([...DAYS])
      .describe('Days of the week.'),
    from: clockSchema.describe('Beginning, a time of day.'),
    to: clockSchema.describe('End; before the beginning: on the next day.'),
    zone: zoneSchema.default('UTC').describe('Time zone.'),
  })
  .refine(({ from, to }) => from !== to, 'a window that begins when it ends is empty')
export type RotationWindow = z.output<typeof windowSchema>

const whenSchema = z
  .strictObject({
    every: durationSchema.optional().describe('So long after the last rotation.'),
    cron: cronSchema.optional().describe('A cron pattern.'),
    zone: zoneSchema.default('UTC').describe('Time zone of the cron pattern.'),
    windows: z
      .array(windowSchema)
      .default([])
      .describe('Rotations by the clock begin within one of these; none: at any time.'),
    jitter: durationSchema.default(0).describe('Spreads the secrets of this policy over so long.'),
    max_age: durationSchema
      .optional()
      .describe('What is older is reported as overdue, and rotates outside of the windows.'),
    on: z
      .array(z.enum(['revocation', 'leak', 'owner_left']))
      .default([])
      .describe('Events that begin a rotation at once.'),
  })
  .refine(
    ({ every, cron, on, max_age: maxAge }) =>
      every !== undefined || cron !== undefined || maxAge !== undefined || on.length > 0,
    'say when: every, cron, max_age or on',
  )
  .refine(({ every, cron }) => every === undefined || cron === undefined, 'every and cron exclude each other')

/** `*` stands for any run of characters, and is the one sign with a meaning of its own. */
const patternSchema = z
  .string()
  .regex(/^[A-Za-z0-9*][A-Za-z0-9._*-]{0,127}$/, 'write a name, with * for any run of characters')

/** `policies/rotation/<id>.yaml`: which secrets rotate, when and how. */
export const rotationPolicySchema = z.strictObject({
  rotation: idSchema.describe('The id.'),
  owner: z.string().min(1).describe('The owner, whom reports name.'),
  secrets: z
    .strictObject({
      backend: idSchema.default('embedded').describe('The backend that stores the secrets.'),
      tenants: tenantsSchema.default('*').describe('The tenants that own the secrets.'),
      name: patternSchema.describe(
        'Name of the secret; * for any run of characters, where the backend can list its secrets.',
      ),
    })
    .describe('The secrets that rotate.'),
  when: whenSchema.describe('When secrets rotate.'),
  how: rotatorSchema.describe('How secrets are changed at their target.'),
  grace: durationSchema
    .default(3_600_000)
    .describe('How long the old secret works in parallel with the new one, where the target allows two.'),
  ends_early: z
    .boolean()
    .optional()
    .describe(
      'Whether the grace ends as soon as every process that received the old secret from Deputy has fetched the new one. Default: true for the embedded backend; false elsewhere, because other programs may read the secret there.',
    ),
  concurrency: z.int().min(1).max(1000).default(4).describe('Concurrent requests to one target.'),
  on_failure: z
    .strictObject({
      retry: z.int().min(0).max(100).default(5).describe('Attempts after the first one, with growing pauses.'),
      afterwards: z
        .enum(['roll_back', 'page'])
        .default('roll_back')
        .describe(
          'What happens after the last attempt, if the old secret still works: roll back to it, or leave everything as it is and call for a person.',
        ),
    })
    .prefault({})
    .describe('What happens when a step fails.'),
  notify: z
    .array(
      z.strictObject({
        webhook: urlSchema,
        secret: secretReferenceSchema.describe('Key of the signature, HMAC-SHA-256.'),
      }),
    )
    .default([])
    .describe('Endpoint that is notified of the end of each rotation and of a rotation that is stuck.'),
})
export type RotationPolicy = z.output<typeof rotationPolicySchema>

/** Whether a grace may end before its time. */
export const endsEarly = ({ ends_early: early, secrets }: Pick<RotationPolicy, 'ends_early' | 'secrets'>): boolean =>
  early ?? secrets.backend === 'embedded'

/** The backend under which Deputy's own keys are named. */
export const OWN_BACKEND = 'deputy'
/** Their names; each tenant has a data key of its own. */
export type OwnKeys = 'signing-keys' | 'key-encryption-key' | `data-key.${string}`
const DATA_KEY = 'data-key.'
export const dataKeyOf = (tenant: string): OwnKeys => `${DATA_KEY}${tenant}`
/** The tenant whose data key it is; undefined for the others. */
export const tenantOfDataKey = (name: string): string | undefined =>
  name.startsWith(DATA_KEY) ? name.slice(DATA_KEY.length) : undefined
/** Whether the name, or the pattern, is one of Deputy's own keys, or of several data keys. */
export const isOwnKeys = (name: string): name is OwnKeys =>
  name === 'signing-keys' || name === 'key-encryption-key' || name.startsWith(DATA_KEY)
/** How long a data key is needed in parallel with the next one at least (ms): other nodes read their keys again within a minute, and clocks differ. */
export const DATA_KEY_GRACE = 300_000

const patternOf = (name: string): RegExp =>
  new RegExp(
    `^${name
      .split('*')
      .map((part) => part.replaceAll(/[.\\-]/g, '\\$&'))
      .join('.*')}$`,
  )

/** Whether a secret is one of the policy's. */
export const covers = (
  { secrets }: Pick<RotationPolicy, 'secrets'>,
  secret: { tenant: string; backend: string; secret: string },
): boolean =>
  secrets.backend === secret.backend &&
  (secrets.tenants === '*' || secrets.tenants.includes(secret.tenant)) &&
  patternOf(secrets.name).test(secret.secret)

/** Whether two patterns have a name in common: walks both at once. */
const namesMeet = (left: string, right: string): boolean => {
  const known = new Map<string, boolean>()
  const meet = (a: number, b: number): boolean => {
    const key = `${a} ${b}`
    const seen = known.get(key)
    if (seen !== undefined) return seen
    known.set(key, false)
    const [x, y] = [left[a], right[b]]
    const result =
      x === undefined && y === undefined
        ? true
        : x === '*'
          ? meet(a + 1, b) || (y !== undefined && meet(a, b + 1))
          : y === '*'
            ? meet(a, b + 1) || (x !== undefined && meet(a + 1, b))
            : x !== undefined && x === y && meet(a + 1, b + 1)
    known.set(key, result)
    return result
  }
  return meet(0, 0)
}

/** Whether both could cover the same secret: then it is undecided which of them applies. */
export const overlaps = (
  { secrets: one }: Pick<RotationPolicy, 'secrets'>,
  { secrets: other }: Pick<RotationPolicy, 'secrets'>,
): boolean =>
  one.backend === other.backend &&
  namesMeet(one.name, other.name) &&
  (one.tenants === '*' || other.tenants === '*' || one.tenants.some((tenant) => other.tenants.includes(tenant)))
