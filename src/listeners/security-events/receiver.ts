import { Router, type Request, type Response } from 'express'
import type { Clock } from '#clock'
import type { CurrentSnapshot, SignalTransmitter, Tenant } from '#config'
import type { ResolveSecret } from '#credentials/secret'
import { asDeputyError } from '#errors'
import type { Revoker } from '#flows/revocation'
import type { AuditLog } from '#foundation/audit'
import { equalInConstantTime, type Fingerprint } from '#foundation/crypto'
import type { ReplayStore } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import { type IssuerKeys, sessionIdOf, userOf } from '#identity/subject'
import { readBody } from '#listeners/http'
import { ConcurrencyLimit } from './concurrency-limit.ts'
import { createEnding, type Ended } from './ending.ts'
import { createEventVerifier, DeliveryFailure, EVENTS, MAX_AGE_MS, type SecurityEvent } from './security-event-token.ts'

const MAX_BODY_BYTES = 65_536
/** Concurrent deliveries, in total and for one tenant; the transmitter sends the others again. */
const CONCURRENCY = { total: 256, each: 16 }
const MEDIA_TYPE = 'application/secevent+jwt'

/** What is done about an event. */
type Verdict =
  | ({ readonly kind: 'revoke'; readonly sessionLifetime: number } & Ended)
  | { readonly kind: 'ignore'; readonly why: string }

export interface ReceiverDependencies {
  readonly snapshot: CurrentSnapshot
  readonly keys: IssuerKeys
  readonly revoker: Pick<Revoker, 'revoke'>
  readonly replays: ReplayStore
  readonly resolveSecret: ResolveSecret
  readonly audit: AuditLog
  /** Whether a token of an issuer has named its session for this tenant, at any node. */
  readonly namesSessions: (of: { readonly tenant: string; readonly issuer: string }) => Promise<boolean>
  readonly fingerprint: Fingerprint
  readonly clock: Clock
  readonly logger: Logger
  readonly correlationId: () => string
}

/** A delivery to a tenant. */
interface Delivery {
  readonly request: Request
  readonly response: Response
  readonly correlationId: string
}

/** The tenant that a delivery is for. @throws DeliveryFailure for a tenant without transmitters, or another content type */
const tenantOf = (request: Request, snapshot: CurrentSnapshot): Tenant => {
  const tenant = snapshot().tenants.get(String(request.params['tenant']))
  if (tenant?.enabled !== true || tenant.signals.length === 0)
    throw new DeliveryFailure('access_denied', 'No transmitter is set up here.')
  if ((request.headers['content-type'] ?? '').split(';')[0]!.trim().toLowerCase() !== MEDIA_TYPE)
    throw new DeliveryFailure('invalid_request', `The content type is not ${MEDIA_TYPE}.`)
  return tenant
}

/**
 * The transmitters whose token the delivery carries. They are authenticated before anything of the event is read
 * (RFC 8935 section 4.1.1). @throws DeliveryFailure `authentication_failed`
 */
const authenticate = async (
  request: Request,
  tenant: Tenant,
  { resolveSecret }: Pick<ReceiverDependencies, 'resolveSecret'>,
): Promise<readonly SignalTransmitter[]> => {
  const presented = /^Bearer ([^\s]{1,4096})$/.exec(request.headers.authorization ?? '')?.[1]
  const known: SignalTransmitter[] = []
  for (const transmitter of tenant.signals) {
    const secret = await resolveSecret(transmitter.token, tenant.tenant)
    if (presented !== undefined && equalInConstantTime(presented, secret.reveal())) known.push(transmitter)
  }
  if (known.length === 0)
    throw new DeliveryFailure('authentication_failed', 'The bearer token is not that of a transmitter.')
  return known
}

/** Why an event ends nothing; undefined when it does. */
const ignoredBecause = ({ type, changeType }: SecurityEvent): string | undefined => {
  if (type === EVENTS.verification) return 'it verifies the stream'
  if (type !== EVENTS.sessionRevoked && type !== EVENTS.credentialChange) return 'its type is not known here'
  return type === EVENTS.credentialChange && changeType === 'create' ? 'a new credential ends nothing' : undefined
}

/** The session that an event ends; undefined when it ends everything of the user. */
const sessionEndedBy = async (
  event: SecurityEvent,
  transmitter: SignalTransmitter,
  { tenant, issuer }: { readonly tenant: string; readonly issuer: string },
  { namesSessions, fingerprint }: Pick<ReceiverDependencies, 'namesSessions' | 'fingerprint'>,
): Promise<string | undefined> => {
  const ends = transmitter.session_revoked ?? ((await namesSessions({ tenant, issuer })) ? 'session' : 'user')
  return event.type === EVENTS.sessionRevoked && event.session !== undefined && ends === 'session'
    ? sessionIdOf({ tenant, issuer, sid: event.session }, fingerprint)
    : undefined
}

/** What is done about an event. @throws DeliveryFailure when its subject names no user of the tenant */
const judge = async (
  event: SecurityEvent,
  transmitter: SignalTransmitter,
  tenant: Tenant,
  deps: ReceiverDependencies,
): Promise<Verdict> => {
  const why = ignoredBecause(event)
  if (why !== undefined) return { kind: 'ignore', why }
  const about = transmitter.users_of ?? transmitter.issuer
  const issuer = tenant.issuers.find((each) => each.issuer === about)
  const { subject } = event
  if (issuer === undefined || subject === undefined || (subject.format === 'iss_sub' && subject.iss !== about))
    throw new DeliveryFailure('invalid_request', 'The subject names no user of this tenant.')
  const session = await sessionEndedBy(event, transmitter, { tenant: tenant.tenant, issuer: about }, deps)
  const revoke = { kind: 'revoke', sessionLifetime: issuer.session_lifetime } as const
  try {
    // By the same mapping as a token of that issuer, or not at all.
    const user = userOf(subject.format === 'iss_sub' ? { sub: subject.sub } : { email: subject.email }, issuer)
    return session === undefined ? { ...revoke, user, session } : { ...revoke, user, session }
  } catch (error) {
    if (session !== undefined) return { ...revoke, user: undefined, session }
    throw new DeliveryFailure(
      'invalid_request',
      'The subject cannot be mapped to a user: it does not have the claim that names users.',
      error,
    )
  }
}

/** Does what an event calls for, once, and records it. @throws DeliveryFailure, DeputyError */
const receive = async (
  { request, correlationId }: Delivery,
  tenant: Tenant,
  body: Buffer,
  { verify, deps }: { readonly verify: ReturnType<typeof createEventVerifier>; readonly deps: ReceiverDependencies },
): Promise<void> => {
  const transmitters = await authenticate(request, tenant, deps)
  const { event, transmitter } = await verify(body.toString('utf8').trim(), transmitters)
  const namespace = `signal ${tenant.tenant} ${transmitter.issuer}`
  if (await deps.replays.has(namespace, event.id, deps.clock.now())) return
  const verdict = await judge(event, transmitter, tenant, deps)
  const facts = { type: event.type, transmitter: transmitter.issuer, event: event.id }
  if (verdict.kind === 'revoke')
    await createEnding(deps)(verdict, {
      tenant: tenant.tenant,
      by: `signal of ${transmitter.issuer}`,
      reason: event.type.split('/').at(-1)!,
      correlationId,
      sessionLifetime: verdict.sessionLifetime,
      facts,
    })
  else
    await deps.audit.append({
      id: correlationId,
      event: 'signal.received',
      outcome: 'done',
      tenant: tenant.tenant,
      detail: { ...facts, ignored: verdict.why },
    })
  await deps.replays.claim(namespace, event.id, deps.clock.now() + 2 * MAX_AGE_MS)
}

/** Answers a delivery that failed (RFC 8935 section 2.3); a refusal for a known tenant is recorded. */
const refuseDelivery = async (
  { request, response, correlationId }: Delivery,
  thrown: unknown,
  { snapshot, audit, logger }: ReceiverDependencies,
): Promise<void> => {
  if (!(thrown instanceof DeliveryFailure)) {
    const error = asDeputyError(thrown)
    logger.warn({ err: error, correlation_id: correlationId }, 'security event failed; its revocation was not made')
    if (error.retryAfter !== undefined) response.setHeader('retry-after', String(error.retryAfter))
    response
      .status(error.kind.status === 413 ? 400 : error.kind.status)
      .json({ err: 'invalid_request', description: error.message })
    return
  }
  const tenant = String(request.params['tenant'])
  if (snapshot().tenants.has(tenant)) {
    const next = "Compare the transmitter with `signals` in the tenant's file."
    await audit.append({
      id: correlationId,
      event: 'signal.received',
      outcome: 'refused',
      tenant,
      detail: { error: { code: thrown.err, message: thrown.message, next } },
    })
  }
  response.status(400).json({ err: thrown.err, description: thrown.message })
}

/**
 * Receives security events by HTTP push (RFC 8935): a session that was ended at the company's identity provider, or a
 * credential that was changed there, becomes the revocation that an admin would order for the user.
 *
 * The moment that the event names decides nothing: everything given until now is void, because what was given
 * between the event and its arrival rests on the same session. An event is remembered as received only when its revocation
 * stands, so that a kill in between has the transmitter deliver it again.
 */
export const createSignalReceiver = (deps: ReceiverDependencies): Router => {
  const verify = createEventVerifier(deps)
  const limit = new ConcurrencyLimit(CONCURRENCY)

  const deliver = async (request: Request, response: Response): Promise<void> => {
    const correlationId = deps.correlationId()
    const delivery = { request, response, correlationId }
    response.setHeader('x-correlation-id', correlationId)
    response.setHeader('cache-control', 'no-store')
    let release: (() => void) | undefined
    try {
      const tenant = tenantOf(request, deps.snapshot)
      // Read first: a body that comes slowly does not count as concurrent work.
      const body = await readBody(request, MAX_BODY_BYTES)
      release = limit.acquire(tenant.tenant)
      if (release === undefined) {
        response.setHeader('retry-after', '1').status(503).end()
        return
      }
      await receive(delivery, tenant, body, { verify, deps })
      response.status(202).end()
    } catch (thrown) {
      await refuseDelivery(delivery, thrown, deps).catch(() => {
        response.status(503).end()
      })
    } finally {
      release?.()
    }
  }

  const router = Router()
  router.post('/:tenant', (request, response, next) => {
    deliver(request, response).catch(next)
  })
  return router
}
