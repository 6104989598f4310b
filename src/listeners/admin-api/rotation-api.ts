import { Router, type Request, type Response } from 'express'
import { z } from 'zod'
import { idSchema } from '#config'
import type { RotationRoom } from '#flows/rotation'
import type { AuditEvent } from '#foundation/audit'
import { OWN_TENANT } from '#foundation/crypto'
import { ROTATION_STATES } from '#foundation/store'

/** Deputy's own keys are under a tenant that no file can name. */
const secretSchema = z.strictObject({
  tenant: idSchema.or(z.literal(OWN_TENANT)),
  backend: idSchema.default('embedded'),
  secret: z.string().min(1).max(256),
})
const reasonSchema = secretSchema.extend({ reason: z.string().min(1).max(200) })
const listSchema = z.strictObject({
  tenant: idSchema.optional(),
  backend: idSchema.optional(),
  secret: z.string().max(256).optional(),
  policy: idSchema.optional(),
  state: z.enum(ROTATION_STATES).optional(),
  limit: z.coerce.number().int().min(1).max(10_000).default(100),
})
const eventSchema = z
  .strictObject({
    event: z.enum(['leak', 'owner_left']),
    tenant: idSchema.optional(),
    secret: z.string().max(256).optional(),
    owner: z.string().max(256).optional(),
  })
  .refine(
    ({ tenant, secret, owner }) => tenant !== undefined || secret !== undefined || owner !== undefined,
    'say what it is about: tenant, secret or owner',
  )
const planSchema = z.strictObject({ days: z.coerce.number().int().min(1).max(366).default(30) })

/** What the admin API gives each of its parts. */
export interface AdminParts {
  answer(
    work: (request: Request, correlationId: string) => Promise<unknown>,
  ): (request: Request, response: Response) => Promise<void>
  parse<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema>
  present<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> }
  record(
    event: AuditEvent,
    correlationId: string,
    request: Request,
    facts: { tenant?: string; user?: string },
    detail: object,
  ): Promise<void>
  by(request: Request): string
}

/** The rotation part of the admin API. It begins, pauses and ends rotations; what rotates and how is in files alone. */
export const createRotationApi = (
  rotation: RotationRoom,
  { answer, parse, present, record, by }: AdminParts,
): Router => {
  const router = Router()
  router.get(
    '/targets',
    answer(() => rotation.targets()),
  )
  router.get(
    '/',
    answer((request) => {
      const { limit, ...filter } = parse(listSchema, request.query)
      return rotation.list(present(filter), limit)
    }),
  )
  router.get(
    '/plan',
    answer((request) => rotation.plan(parse(planSchema, request.query).days)),
  )
  router.get(
    '/holders',
    answer(() => rotation.checkoutsOfOld()),
  )
  router.get(
    '/report',
    answer(() => rotation.report()),
  )
  router.post(
    '/run',
    answer(async (request, correlationId) => {
      const { reason, ...secret } = parse(reasonSchema, request.body)
      const begun = await rotation.begin(secret, reason)
      await record(
        'rotation.run',
        correlationId,
        request,
        { tenant: secret.tenant },
        { secret: secret.secret, backend: secret.backend, reason, rotation: begun.id },
      )
      return begun
    }),
  )
  router.post(
    '/event',
    answer(async (request, correlationId) => {
      const { event, ...about } = parse(eventSchema, request.body)
      const begun = await rotation.event(event, present(about))
      await record(
        'rotation.event',
        correlationId,
        request,
        {},
        { event, ...about, rotations: begun.map(({ id }) => id) },
      )
      return begun
    }),
  )
  router.post(
    '/pause',
    answer(async (request, correlationId) => {
      const { reason, ...secret } = parse(reasonSchema, request.body)
      await rotation.pause(secret, reason)
      await record(
        'rotation.pause',
        correlationId,
        request,
        { tenant: secret.tenant },
        { secret: secret.secret, backend: secret.backend, reason },
      )
      return { ...secret, paused: reason }
    }),
  )
  router.post(
    '/resume',
    answer(async (request, correlationId) => {
      const secret = parse(secretSchema, request.body)
      await rotation.resume(secret)
      await record(
        'rotation.resume',
        correlationId,
        request,
        { tenant: secret.tenant },
        { secret: secret.secret, backend: secret.backend },
      )
      return { ...secret, paused: null }
    }),
  )
  router.post(
    '/retry',
    answer(async (request, correlationId) => {
      const secret = parse(secretSchema, request.body)
      const open = await rotation.retry(secret)
      await record(
        'rotation.retry',
        correlationId,
        request,
        { tenant: secret.tenant },
        { secret: secret.secret, backend: secret.backend, rotation: open.id },
      )
      return open
    }),
  )
  router.post(
    '/rollback',
    answer(async (request, correlationId) => {
      const secret = parse(secretSchema, request.body)
      const ended = await rotation.rollBack(secret, by(request))
      await record(
        'rotation.rollback',
        correlationId,
        request,
        { tenant: secret.tenant },
        { secret: secret.secret, backend: secret.backend, rotation: ended.id },
      )
      return ended
    }),
  )
  return router
}
