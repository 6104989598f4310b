import { Router, type Request, type Response } from 'express'
import { decodeJwt, decodeProtectedHeader, errors, type JWTPayload } from 'jose'
import { z } from 'zod'
import type { Clock } from '#clock'
import type { CurrentSnapshot, Tenant, TrustedIssuer } from '#config'
import { asDeputyError } from '#errors'
import type { Revoker } from '#flows/revocation'
import type { AuditLog } from '#foundation/audit'
import { type Fingerprint, refusedHeaderOf, verifyByAnyKey } from '#foundation/crypto'
import type { ReplayStore } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import { type IssuerKeys, presentClaims, sessionIdOf, userOf } from '#identity/subject'
import { parseForm, readBody } from '#listeners/http'
import { createEnding } from './ending.ts'
import { Places } from './places.ts'

const LIMIT = 65_536
/** Logouts that are worked on at the same time, in all and of one issuer: its keys may be slow to come. */
const AT_ONCE = { total: 256, each: 16 }
/** An issuer's clock may be ahead by this, and a logout token be as old (s). */
const LEEWAY_S = 60
const OLDEST_S = 3600
const EVENT = 'http://schemas.openid.net/event/backchannel-logout'
/** Explicit where the issuer does it (section 2.4); before that was recommended they were plain JWTs. */
const TYPES: ReadonlySet<string> = new Set(['logout+jwt', 'application/logout+jwt', 'jwt'])

const claimsSchema = z
  .looseObject({
    iss: z.string(),
    aud: z.union([z.string(), z.array(z.string())]),
    iat: z.number(),
    exp: z.number().optional(),
    jti: z.string().min(1).max(512),
    events: z.looseObject({ [EVENT]: z.looseObject({}) }),
    sub: z.string().min(1).max(512).optional(),
    sid: z.string().min(1).max(512).optional(),
    nonce: z.undefined().optional(),
  })
  .refine(({ sub, sid }) => sub !== undefined || sid !== undefined)
type LogoutClaims = z.output<typeof claimsSchema>

/** What is wrong with a logout token (section 2.8). */
class LogoutFailure extends Error {
  override readonly name = 'LogoutFailure'
}

/**
 * OpenID Connect Back-Channel Logout 1.0: a user has logged out at the company's identity provider, or an admin has
 * ended the session
 * there, and the tokens and sign-ins of that session are over here as well. Grants at services stay, because the user
 * did not take
 * them back. A logout token that names the user alone ends all that the user has, as a security event does.
 */
export const createBackChannelLogout = (deps: {
  readonly snapshot: CurrentSnapshot
  readonly keys: IssuerKeys
  readonly revoker: Pick<Revoker, 'revoke'>
  readonly replays: ReplayStore
  readonly audit: AuditLog
  readonly fingerprint: Fingerprint
  readonly clock: Clock
  readonly logger: Logger
  readonly correlationId: () => string
}): Router => {
  const places = new Places(AT_ONCE)

  /** @throws LogoutFailure, DeputyError when the issuer's keys cannot be read */
  const verify = async (token: string, issuer: TrustedIssuer, clientId: string): Promise<LogoutClaims> => {
    let header
    let payload: JWTPayload
    try {
      header = decodeProtectedHeader(token)
      payload = decodeJwt(token)
    } catch (error) {
      throw new LogoutFailure('logout_token is no JWT', { cause: error })
    }
    if (header.typ !== undefined && !TYPES.has(header.typ.toLowerCase()))
      throw new LogoutFailure('its type is not logout+jwt')
    if (refusedHeaderOf(header) !== undefined) throw new LogoutFailure('its header carries a key')
    if (payload.iss !== issuer.issuer) throw new LogoutFailure("its issuer is not that of the tenant's sign_in")
    try {
      await verifyByAnyKey(token, deps.keys(issuer), {
        issuer: issuer.issuer,
        algorithms: [...issuer.algorithms],
        currentDate: new Date(deps.clock.now()),
      })
    } catch (error) {
      if (!(error instanceof errors.JOSEError)) throw error
      throw new LogoutFailure('it has expired, or is not signed by a key of its issuer', { cause: error })
    }
    const claims = claimsSchema.safeParse(presentClaims(payload)).data
    if (claims === undefined) throw new LogoutFailure('it lacks a claim of a logout token, or has a nonce')
    if (![claims.aud].flat().includes(clientId))
      throw new LogoutFailure("its aud is not the client of the tenant's sign_in")
    const age = deps.clock.now() / 1000 - claims.iat
    if (age < -LEEWAY_S || age > OLDEST_S) throw new LogoutFailure('it is of the future, or too old')
    return claims
  }

  /** The user by the same mapping as a token of that issuer; undefined where `sub` does not say that. */
  const userOfLogout = ({ sub }: LogoutClaims, issuer: TrustedIssuer): string | undefined =>
    sub !== undefined && issuer.claims.user === 'sub' ? userOf({ sub }, issuer) : undefined

  const end = createEnding(deps)
  const endOf = async (
    claims: LogoutClaims,
    tenant: Tenant,
    issuer: TrustedIssuer,
    correlationId: string,
  ): Promise<void> => {
    const { sid } = claims
    const user = userOfLogout(claims, issuer)
    if (sid === undefined && user === undefined)
      throw new LogoutFailure("it names no session, and its sub does not name users by the tenant's file")
    const of = { tenant: tenant.tenant, issuer: issuer.issuer }
    const ended =
      sid === undefined
        ? { user: user!, session: undefined }
        : { user, session: sessionIdOf({ ...of, sid }, deps.fingerprint) }
    await end(ended, {
      tenant: tenant.tenant,
      by: `logout at ${issuer.issuer}`,
      reason: 'back-channel logout',
      correlationId,
      sessionLifetime: issuer.session_lifetime,
      facts: { type: EVENT, transmitter: issuer.issuer, event: claims.jti },
    })
  }

  interface Place {
    readonly tenant: Tenant
    readonly clientId: string
    readonly issuer: TrustedIssuer
  }
  /** @throws LogoutFailure */
  const placeOf = (request: Request): Place => {
    const tenant = deps.snapshot().tenants.get(String(request.params['tenant']))
    const issuer = tenant?.issuers.find((each) => each.issuer === tenant.sign_in?.issuer)
    if (tenant?.enabled !== true || tenant.sign_in === undefined || issuer === undefined)
      throw new LogoutFailure('no sign-in is set up here')
    return { tenant, clientId: tenant.sign_in.client_id, issuer }
  }

  /** @throws LogoutFailure, DeputyError */
  const receive = async ({ tenant, clientId, issuer }: Place, body: Buffer, correlationId: string): Promise<void> => {
    const token = parseForm(body).required('logout_token')
    const claims = await verify(token, issuer, clientId)
    const namespace = `logout ${tenant.tenant} ${issuer.issuer}`
    if (await deps.replays.has(namespace, claims.jti, deps.clock.now())) return
    await endOf(claims, tenant, issuer, correlationId)
    // Only now: a kill before has the issuer, or its admin, send it again.
    await deps.replays.claim(namespace, claims.jti, deps.clock.now() + 2 * OLDEST_S * 1000)
  }

  const answer = async (request: Request, response: Response): Promise<void> => {
    const correlationId = deps.correlationId()
    response.setHeader('x-correlation-id', correlationId)
    response.setHeader('cache-control', 'no-store')
    let giveBack: (() => void) | undefined
    try {
      // A body that comes slowly takes no place from others.
      const body = await readBody(request, LIMIT)
      const place = placeOf(request)
      giveBack = places.take(place.issuer.issuer)
      if (giveBack === undefined) {
        response.setHeader('retry-after', '1').status(503).end()
        return
      }
      await receive(place, body, correlationId)
      response.status(200).end()
    } catch (thrown) {
      if (thrown instanceof LogoutFailure) {
        deps.logger.warn({ correlation_id: correlationId }, `a logout was not taken: ${thrown.message}`)
        response.status(400).json({ error: 'invalid_request', error_description: thrown.message })
        return
      }
      const error = asDeputyError(thrown)
      deps.logger.warn({ err: error, correlation_id: correlationId }, 'a logout was not taken')
      response.status(error.kind.status).json({ error: error.kind.oauth, error_description: error.message })
    } finally {
      giveBack?.()
    }
  }

  const router = Router()
  router.post('/:tenant', (request, response, next) => {
    answer(request, response).catch(next)
  })
  return router
}
