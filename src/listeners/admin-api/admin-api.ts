import type { RequestListener } from 'node:http'
import express, { type ErrorRequestHandler, type Request, type Response } from 'express'
import { z } from 'zod'
import { type CurrentSnapshot, idSchema } from '#config'
import { EMBEDDED_BACKEND, type EmbeddedSecrets, type Leases } from '#credentials/secret'
import { asDeputyError, forAdmins, refuse } from '#errors'
import { createNamedCheck, liftProofOf, type Revoker, type LastingOrder } from '#flows/revocation'
import type { RotationRoom } from '#flows/rotation'
import { AUDIT_EVENTS, AUDIT_OUTCOMES, type AuditEvent, type AuditLog } from '#foundation/audit'
import type { Membership } from '#foundation/cluster'
import { type Fingerprint, Secret } from '#foundation/crypto'
import type { AuditFilter, AuditRow, RotatedSecret, Store } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import { didYouMean } from '#foundation/text'
import type { Policy } from '#identity/policy'
import type { UserDirectory } from '#identity/subject'
import { scopeOrderSchema, type RevocationIndex } from '#identity/validity'
import { readUsage } from '#identity/workload'
import { sendError, withCheckedHead } from '#listeners/http'
import { explainPolicy, policyQuestionSchema } from './policy-question.ts'
import { createRotationApi } from './rotation-api.ts'

const LIMIT = 1000

const userName = z.string().min(1).max(256)
/** A name that has to be that of something that exists: what else it may look like does not matter. */
const named = z.string().min(1).max(256)
const orderSchema = z.strictObject({
  scope: scopeOrderSchema,
  reason: z.string().max(500).optional(),
  dry_run: z.boolean().default(false),
  force: z.boolean().default(false),
})
const userSchema = z.strictObject({ tenant: named, user: userName, force: z.boolean().default(false) })
/** The losses that a person has seen, by their ids. */
const lossesSchema = z.strictObject({ losses: z.array(z.string().min(1).max(256)).min(1).max(LIMIT) })
const freezeSchema = z.strictObject({ tenant: named, reason: z.string().max(500).optional() })
const thawSchema = z.strictObject({ tenant: named })
const secretSchema = z.strictObject({ tenant: idSchema, name: idSchema, value: z.string().min(1).max(65_536) })
const secretNameSchema = z.strictObject({ tenant: named, name: named })
const numeric = z.coerce.number().int().nonnegative()
const auditQuerySchema = z.strictObject({
  id: z.string().max(128).optional(),
  event: named.optional(),
  outcome: named.optional(),
  tenant: named.optional(),
  user: userName.optional(),
  server: named.optional(),
  downstream: named.optional(),
  node: idSchema.or(z.literal('*')).optional(),
  since: numeric.optional(),
  until: numeric.optional(),
  after: numeric.optional(),
  limit: numeric.max(10_000).default(100),
  last: z.stringbool().default(false),
})
const grantQuerySchema = z.strictObject({
  tenant: idSchema.optional(),
  user: userName.optional(),
  server: idSchema.optional(),
  downstream: idSchema.optional(),
  provider: idSchema.optional(),
  id: z.string().max(128).optional(),
  after: z.string().max(128).optional(),
  limit: numeric.max(LIMIT).default(LIMIT),
})
const DAY = 86_400_000
const usageQuerySchema = z.strictObject({ days: numeric.min(1).max(3650).default(90) })
const keyOrderSchema = z.strictObject({ keys: z.enum(['key-encryption', 'signing']) })

export interface AdminDependencies {
  readonly snapshot: CurrentSnapshot
  readonly store: Store
  readonly users: UserDirectory
  readonly revocationIndex: RevocationIndex
  readonly membership: Pick<Membership, 'record' | 'confirm'>
  readonly secrets: EmbeddedSecrets
  /** Tells programs that have a secret that there is a newer version. */
  readonly secretChanged: (secret: RotatedSecret) => void
  readonly leases: Pick<Leases, 'list'>
  readonly revoker: Revoker
  readonly rotation: RotationRoom
  readonly policy: () => Policy
  readonly audit: AuditLog
  readonly fingerprint: Fingerprint
  readonly verifyAudit: () => Promise<object>
  readonly status: () => Promise<object>
  readonly reload: () => Promise<object>
  readonly rotateKeys: (keys: 'key-encryption' | 'signing') => Promise<object>
  /** Who is at the other end, for the record: the kernel's word. */
  readonly by: (request: Request) => string
  readonly now: () => number
  readonly correlationId: () => string
  readonly logger: Logger
}

/** Values that were asked for and are there; zod leaves `undefined` where nothing was sent. */
const present = <T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } =>
  Object.fromEntries(Object.entries(value).filter(([, each]) => each !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>
  }

const parse = <Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> => {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw refuse('malformed_request', {
    problem: `${issue?.path.join('.') || 'the body'}: ${issue?.message ?? 'not as expected'}`,
  })
}

/** @throws DeputyError `name_unknown` for a word of a filter that no record can have */
const assertListed = (kind: string, name: string | undefined, known: readonly string[]): void => {
  if (name === undefined || known.includes(name)) return
  const near = didYouMean(name, known)
  throw refuse('name_unknown', {
    kind: `audit ${kind}`,
    name,
    hint: ` ${near === '' ? `There are ${known.join(', ')}.` : near}`,
  })
}

/** What the receipt of an order says where a name stood for the user's id. */
const namedBy = (ordered: object, done: object): { named?: string } =>
  'user' in ordered && 'user' in done && ordered.user !== done.user ? { named: String(ordered.user) } : {}

const toJson = ({ body, ...row }: AuditRow) => ({ ...row, record: JSON.parse(body) as unknown })

/**
 * The admin API, on a socket that only the daemon's own user can open. It reads and ends things and sets secrets; it
 * changes no file, so that policy, registry and audit sinks are what the files say (threat 26).
 */
export const createAdminApi = (deps: AdminDependencies): RequestListener => {
  const app = express()
  app.disable('x-powered-by')
  app.use(express.json({ limit: 131_072 }))
  const { store } = deps
  const check = createNamedCheck(deps)

  const answer =
    (work: (request: Request, correlationId: string) => Promise<unknown>) =>
    async (request: Request, response: Response): Promise<void> => {
      const correlationId = deps.correlationId()
      response.locals['correlationId'] = correlationId
      response.json(await work(request, correlationId))
    }

  const record = (
    event: AuditEvent,
    correlationId: string,
    request: Request,
    facts: { tenant?: string; user?: string },
    detail: object,
  ): Promise<void> =>
    deps.audit.append({
      id: correlationId,
      event,
      outcome: 'done',
      ...facts,
      detail: { by: deps.by(request), ...detail },
    })

  const disabledAt = async (tenant: string, user: string): Promise<number | undefined> =>
    (await store.disabledUsers.list()).find((each) => each.tenant === tenant && each.user === user)?.at
  const frozenAt = async (tenant: string): Promise<number | undefined> =>
    (await store.frozenTenants.list()).find((each) => each.tenant === tenant)?.at
  /** What the record of an order says that is lifted; nothing where none held. */
  const liftOf = (order: Omit<LastingOrder, 'at'>, at: number | undefined): object =>
    at === undefined ? {} : { lifts: at, proof: liftProofOf(deps.fingerprint, { ...order, at }) }

  app.get(
    '/status',
    answer(() => deps.status()),
  )
  app.post(
    '/reload',
    answer(() => deps.reload()),
  )

  app.get(
    '/tenants',
    answer(async () => [...deps.snapshot().tenants.values()]),
  )
  app.get(
    '/servers',
    answer(async () => [...deps.snapshot().servers.values()]),
  )
  app.get(
    '/downstreams',
    answer(async () => [...deps.snapshot().downstreams.values()]),
  )
  app.get(
    '/usage',
    answer((request) => {
      const { days } = parse(usageQuerySchema, request.query)
      return readUsage({ audit: store.audit, servers: deps.snapshot().servers, since: deps.now() - days * DAY })
    }),
  )
  app.get(
    '/unknown-callers',
    answer(() => store.unknownCallers.list()),
  )

  app.get(
    '/grants',
    answer(async (request) => {
      const { after, limit, ...filter } = parse(grantQuerySchema, request.query)
      const grants = await store.grants.list(await check.filter(present(filter)), {
        limit,
        ...(after === undefined ? {} : { after }),
      })
      return grants.map(({ sealed: _, ...facts }) => facts)
    }),
  )
  app.get(
    '/leases',
    answer(async (request) => {
      const { after: _a, limit, provider: _p, ...filter } = parse(grantQuerySchema, request.query)
      return (await deps.leases.list(await check.filter(present(filter))))
        .slice(0, limit)
        .map(({ sealed: _, ...facts }) => facts)
    }),
  )
  app.get(
    '/consents',
    answer(async (request) => {
      const { after: _a, limit: _l, id: _i, provider: _p, ...filter } = parse(grantQuerySchema, request.query)
      return store.consents.list(await check.filter(present(filter)))
    }),
  )
  app.get(
    '/losses',
    answer(() => store.losses.open()),
  )
  app.post(
    '/losses/acknowledge',
    answer(async (request, correlationId) => {
      const { losses } = parse(lossesSchema, request.body)
      await record('store.acknowledge', correlationId, request, {}, { losses })
      return { acknowledged: await store.losses.acknowledge(losses, deps.by(request), deps.now()) }
    }),
  )
  app.get(
    '/sessions',
    answer(async () => (await store.sessions.list()).map(({ sealed: _, ...facts }) => facts)),
  )

  app.post(
    '/revoke',
    answer(async (request, correlationId) => {
      const { scope: ordered, reason, dry_run: dryRun, force } = parse(orderSchema, request.body)
      const scope = await check.scope(present(ordered) as Parameters<Revoker['preview']>[0], force)
      const receipt = dryRun
        ? await deps.revoker.preview(scope)
        : await deps.revoker.revoke({
            scope,
            by: deps.by(request),
            correlationId,
            ...(reason === undefined ? {} : { reason }),
          })
      // The revocation comes first: the search reads the whole audit log.
      return scope.kind === 'token'
        ? { ...receipt, token: await check.token(scope.token) }
        : { ...receipt, ...namedBy(ordered, scope) }
    }),
  )
  app.get(
    '/revocations',
    answer(() => store.revocations.list()),
  )
  app.get(
    '/upstream-revocations',
    answer(async () => (await store.upstreamRevocations.list()).map(({ sealed: _, ...facts }) => facts)),
  )

  app.get(
    '/users/disabled',
    answer(() => store.disabledUsers.list()),
  )
  app.post(
    '/users/disable',
    answer(async (request, correlationId) => {
      const { tenant, user: named, force } = parse(userSchema, request.body)
      const user = await check.user(tenant, named, force)
      const order = { tenant, user, at: deps.now(), by: deps.by(request) }
      const write = () => store.disabledUsers.add(order)
      const change = await deps.membership.record(write)
      deps.revocationIndex.disable(order)
      const nodes = await deps.membership.confirm(change, write)
      const since = await disabledAt(tenant, user)
      await record('user.disable', correlationId, request, { tenant, user }, { nodes, since })
      return { tenant, user, disabled: true, nodes, ...namedBy({ user: named }, { user }) }
    }),
  )
  app.post(
    '/users/enable',
    answer(async (request, correlationId) => {
      const { tenant, user: named, force } = parse(userSchema, request.body)
      const user = await check.user(tenant, named, force)
      // The proof comes first: an order that is gone without one would be put back at the next start.
      const lifted = liftOf({ tenant, user }, await disabledAt(tenant, user))
      await record('user.enable', correlationId, request, { tenant, user }, lifted)
      const was = await store.disabledUsers.remove(tenant, user)
      deps.revocationIndex.enable(tenant, user)
      return { tenant, user, disabled: false, was_disabled: was, ...namedBy({ user: named }, { user }) }
    }),
  )

  app.get(
    '/tenants/frozen',
    answer(() => store.frozenTenants.list()),
  )
  app.post(
    '/tenants/freeze',
    answer(async (request, correlationId) => {
      const { tenant, reason = null } = parse(freezeSchema, request.body)
      await check.tenant(tenant)
      const order = { tenant, at: deps.now(), by: deps.by(request), reason }
      const write = () => store.frozenTenants.add(order)
      const change = await deps.membership.record(write)
      deps.revocationIndex.freeze(order)
      const nodes = await deps.membership.confirm(change, write)
      await record(
        'tenant.freeze',
        correlationId,
        request,
        { tenant },
        { reason, nodes, since: await frozenAt(tenant) },
      )
      return { tenant, frozen: true, nodes }
    }),
  )
  app.post(
    '/tenants/thaw',
    answer(async (request, correlationId) => {
      const { tenant } = parse(thawSchema, request.body)
      await check.tenant(tenant)
      const lifted = liftOf({ tenant }, await frozenAt(tenant))
      await record('tenant.thaw', correlationId, request, { tenant }, lifted)
      const was = await store.frozenTenants.remove(tenant)
      deps.revocationIndex.thaw(tenant)
      return { tenant, frozen: false, was_frozen: was }
    }),
  )

  app.get(
    '/secrets',
    answer(async () => (await deps.secrets.list()).filter(({ tenant }) => deps.snapshot().tenants.has(tenant))),
  )
  app.post(
    '/secrets',
    answer(async (request, correlationId) => {
      const { tenant, name, value } = parse(secretSchema, request.body)
      check.configuredTenant(tenant)
      const version = await deps.secrets.write(tenant, name, new Secret(value))
      deps.secretChanged({ tenant, backend: EMBEDDED_BACKEND, secret: name })
      await record('secret.set', correlationId, request, { tenant }, { secret: name, version })
      return { tenant, name, version }
    }),
  )
  app.post(
    '/secrets/remove',
    answer(async (request, correlationId) => {
      const { tenant, name } = parse(secretNameSchema, request.body)
      await check.secret(tenant, name)
      const removed = await deps.secrets.remove(tenant, name)
      await record('secret.remove', correlationId, request, { tenant }, { secret: name, versions: removed })
      return { tenant, name, removed }
    }),
  )

  app.use('/rotations', createRotationApi(deps.rotation, { answer, parse, present, record, by: deps.by }))

  app.post(
    '/keys/rotate',
    answer(async (request, correlationId) => {
      const { keys } = parse(keyOrderSchema, request.body)
      const result = await deps.rotateKeys(keys)
      await record('key.rotate', correlationId, request, {}, { keys, ...result })
      return { keys, ...result }
    }),
  )

  app.post(
    '/policy/explain',
    answer(async (request) =>
      explainPolicy(
        await check.filter(present(parse(policyQuestionSchema, request.body))),
        deps.snapshot(),
        deps.policy(),
        deps.now(),
      ),
    ),
  )

  app.get(
    '/audit',
    answer(async (request) => {
      const { limit, last, after, ...filter } = parse(auditQuerySchema, request.query)
      // Numbers count within one node's chain; whoever does not go by them is told of every node.
      assertListed('event', filter.event, AUDIT_EVENTS)
      assertListed('outcome', filter.outcome, AUDIT_OUTCOMES)
      const wanted: AuditFilter = {
        ...(after === undefined ? { node: '*' } : { afterSeq: after }),
        ...(await check.filter(present(filter))),
      }
      return (await store.audit.query(wanted, { limit, last })).map(toJson)
    }),
  )
  app.get(
    '/audit/verify',
    answer(() => deps.verifyAudit()),
  )

  app.use((request: Request) => {
    throw refuse('not_found', { path: request.path.slice(0, 200) })
  })
  const onError: ErrorRequestHandler = (thrown: unknown, _request, response, _next) => {
    const correlationId = String(response.locals['correlationId'] ?? deps.correlationId())
    const error = isBodyError(thrown)
      ? refuse('malformed_request', { problem: 'the body is not JSON of at most 128 KiB' })
      : asDeputyError(thrown)
    if (error.code === 'internal')
      deps.logger.error({ err: error.cause, correlation_id: correlationId }, 'an admin request failed inside Deputy')
    sendError(response, error, correlationId, forAdmins(error))
  }
  app.use(onError)
  return withCheckedHead(app, deps.correlationId)
}

/** Errors of express's own body parser carry a `type`. */
const isBodyError = (thrown: unknown): boolean => thrown instanceof Error && 'type' in thrown && 'status' in thrown
