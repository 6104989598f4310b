import { Router, type Request, type Response } from 'express'
import type { Clock } from '#clock'
import type { CurrentSnapshot, SignalTransmitter, Tenant } from '#config'
import type { ResolveSecret } from '#credentials/secret'
import { asDeputyError, DeputyError } from '#errors'
import type { Revoker } from '#flows/revocation'
import type { AuditLog } from '#foundation/audit'
import { equalInConstantTime, type Fingerprint } from '#foundation/crypto'
import type { ReplayStore } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import { type IssuerKeys, sessionIdOf, userOf } from '#identity/subject'
import { readBody } from '#listeners/http'
import { createEnding, type Ended } from './ending.ts'
import { Places } from './places.ts'
import { createEventVerifier, DeliveryFailure, EVENTS, OLDEST, type SecurityEvent } from './security-event-token.ts'

const LIMIT = 65_536
/** Deliveries that are worked on at the same time, in all and for one tenant; the transmitter tries the others again. */
const AT_ONCE = { total: 256, each: 16 }
const MEDIA = 'application/secevent+jwt'

/** What is done about an event. */
type Verdict =
  | ({ readonly kind: 'revoke'; readonly sessionLifetime: number } & Ended)
  | { readonly kind: 'ignore'; readonly why: string }

/**
 * Receives security events by HTTP push (RFC 8935): a session that was ended at the company's identity provider, or a
 * credential that was changed there, becomes the revocation that an admin would order for the user.
 *
 * The moment that the event names decides nothing: everything given until now is void, because what was given
 * between the event and its arrival rests on the same session. An event is remembered as received only when its revocation
 * stands, so that a kill in between has the transmitter deliver it again.
 */
export const createSignalReceiver = (deps: {
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
}): Router => {
  const verify = createEventVerifier(deps)
  const end = createEnding(deps)
  const places = new Places(AT_ONCE)

  /** The transmitter proves who it is before anything of the token is looked at (RFC 8935 section 4.1.1). */
  const authenticate = async (request: Request, tenant: Tenant): Promise<readonly SignalTransmitter[]> => {
    const shown = /^Bearer ([^\s]{1,4096})$/.exec(request.headers.authorization ?? '')?.[1]
    const known: SignalTransmitter[] = []
    for (const transmitter of tenant.signals) {
      const secret = await deps.resolveSecret(transmitter.token, tenant.tenant)
      if (shown !== undefined && equalInConstantTime(shown, secret.reveal())) known.push(transmitter)
    }
    if (known.length === 0)
      throw new DeliveryFailure('authentication_failed', 'The bearer token is not that of a transmitter.')
    return known
  }

  const judge = async (event: SecurityEvent, transmitter: SignalTransmitter, tenant: Tenant): Promise<Verdict> => {
    if (event.type === EVENTS.verification) return { kind: 'ignore', why: 'it verifies the stream' }
    if (event.type !== EVENTS.sessionRevoked && event.type !== EVENTS.credentialChange)
      return { kind: 'ignore', why: 'its type is not known here' }
    if (event.type === EVENTS.credentialChange && event.changeType === 'create')
      return { kind: 'ignore', why: 'a new credential ends nothing' }
    const about = transmitter.users_of ?? transmitter.issuer
    const issuer = tenant.issuers.find((each) => each.issuer === about)
    const { subject } = event
    if (issuer === undefined || subject === undefined || (subject.format === 'iss_sub' && subject.iss !== about))
      throw new DeliveryFailure('invalid_request', 'The subject names no user of this tenant.')
    const ends =
      transmitter.session_revoked ??
      ((await deps.namesSessions({ tenant: tenant.tenant, issuer: about })) ? 'session' : 'user')
    const session =
      event.type === EVENTS.sessionRevoked && event.session !== undefined && ends === 'session'
        ? sessionIdOf({ tenant: tenant.tenant, issuer: about, sid: event.session }, deps.fingerprint)
        : undefined
    // By the same mapping as a token of that issuer, or not at all.
    const revoke = { kind: 'revoke', sessionLifetime: issuer.session_lifetime } as const
    try {
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

  /** @throws DeliveryFailure */
  const tenantOf = (request: Request): Tenant => {
    const tenant = deps.snapshot().tenants.get(String(request.params['tenant']))
    if (tenant?.enabled !== true || tenant.signals.length === 0)
      throw new DeliveryFailure('access_denied', 'Nobody is listened to here.')
    if ((request.headers['content-type'] ?? '').split(';')[0]!.trim().toLowerCase() !== MEDIA)
      throw new DeliveryFailure('invalid_request', `The content type is not ${MEDIA}.`)
    return tenant
  }

  const receive = async (request: Request, tenant: Tenant, body: Buffer, correlationId: string): Promise<void> => {
    const transmitters = await authenticate(request, tenant)
    const { event, transmitter } = await verify(body.toString('utf8').trim(), transmitters)
    const namespace = `signal ${tenant.tenant} ${transmitter.issuer}`
    if (await deps.replays.has(namespace, event.id, deps.clock.now())) return
    const verdict = await judge(event, transmitter, tenant)
    const facts = { type: event.type, transmitter: transmitter.issuer, event: event.id }
    if (verdict.kind === 'revoke')
      await end(verdict, {
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
    await deps.replays.claim(namespace, event.id, deps.clock.now() + 2 * OLDEST)
  }

  const refuseDelivery = async (
    response: Response,
    request: Request,
    thrown: unknown,
    correlationId: string,
  ): Promise<void> => {
    if (thrown instanceof DeliveryFailure) {
      const tenant = String(request.params['tenant'])
      if (deps.snapshot().tenants.has(tenant)) {
        await deps.audit.append({
          id: correlationId,
          event: 'signal.received',
          outcome: 'refused',
          tenant,
          detail: {
            error: {
              code: thrown.err,
              message: thrown.message,
              next: "Compare the transmitter with `signals` in the tenant's file.",
            },
          },
        })
      }
      response.status(400).json({ err: thrown.err, description: thrown.message })
      return
    }
    const error: DeputyError = asDeputyError(thrown)
    deps.logger.warn({ err: error, correlation_id: correlationId }, 'a security event was not taken')
    if (error.retryAfter !== undefined) response.setHeader('retry-after', String(error.retryAfter))
    response
      .status(error.kind.status === 413 ? 400 : error.kind.status)
      .json({ err: 'invalid_request', description: error.message })
  }

  const deliver = async (request: Request, response: Response): Promise<void> => {
    const correlationId = deps.correlationId()
    response.setHeader('x-correlation-id', correlationId)
    response.setHeader('cache-control', 'no-store')
    let giveBack: (() => void) | undefined
    try {
      const tenant = tenantOf(request)
      // A body that comes slowly takes no place from others.
      const body = await readBody(request, LIMIT)
      giveBack = places.take(tenant.tenant)
      if (giveBack === undefined) {
        response.setHeader('retry-after', '1').status(503).end()
        return
      }
      await receive(request, tenant, body, correlationId)
      response.status(202).end()
    } catch (thrown) {
      await refuseDelivery(response, request, thrown, correlationId).catch(() => {
        response.status(503).end()
      })
    } finally {
      giveBack?.()
    }
  }

  const router = Router()
  router.post('/:tenant', (request, response, next) => {
    deliver(request, response).catch(next)
  })
  return router
}
