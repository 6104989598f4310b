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
import { ConcurrencyLimit } from './concurrency-limit.ts'
import { createEnding, type Ended } from './ending.ts'

const MAX_BODY_BYTES = 65_536
/** Concurrent logouts, in total and of one issuer: its keys may be slow to load. */
const CONCURRENCY = { total: 256, each: 16 }
/** How far an issuer's clock may be ahead, and how old a logout token may be (s). */
const LEEWAY_S = 60
const MAX_AGE_S = 3600
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

export interface LogoutDependencies {
  readonly snapshot: CurrentSnapshot
  readonly keys: IssuerKeys
  readonly revoker: Pick<Revoker, 'revoke'>
  readonly replays: ReplayStore
  readonly audit: AuditLog
  readonly fingerprint: Fingerprint
  readonly clock: Clock
  readonly logger: Logger
  readonly correlationId: () => string
}

/** The sign-in of a tenant, whose issuer sends logouts. */
interface SignIn {
  readonly tenant: Tenant
  readonly clientId: string
  readonly issuer: TrustedIssuer
}

/** @throws LogoutFailure for a tenant that is disabled or has no sign-in */
const signInOf = (request: Request, snapshot: CurrentSnapshot): SignIn => {
  const tenant = snapshot().tenants.get(String(request.params['tenant']))
  const issuer = tenant?.issuers.find((each) => each.issuer === tenant.sign_in?.issuer)
  if (tenant?.enabled !== true || tenant.sign_in === undefined || issuer === undefined)
    throw new LogoutFailure('no sign-in is set up here')
  return { tenant, clientId: tenant.sign_in.client_id, issuer }
}

/** What can be checked before the signature: the form, the type, and the issuer whose keys are fetched. @throws LogoutFailure */
const readLogoutToken = (token: string, issuer: TrustedIssuer): JWTPayload => {
  let header
  let payload: JWTPayload
  try {
    header = decodeProtectedHeader(token)
    payload = decodeJwt(token)
  } catch (error) {
    throw new LogoutFailure('logout_token is not a JWT', { cause: error })
  }
  if (header.typ !== undefined && !TYPES.has(header.typ.toLowerCase()))
    throw new LogoutFailure('its type is not logout+jwt')
  if (refusedHeaderOf(header) !== undefined) throw new LogoutFailure('its header carries a key')
  if (payload.iss !== issuer.issuer) throw new LogoutFailure("its issuer is not that of the tenant's sign_in")
  return payload
}

/** @throws LogoutFailure, DeputyError when the issuer's keys cannot be read */
const verifyLogoutToken = async (
  token: string,
  { issuer, clientId }: SignIn,
  { keys, clock }: Pick<LogoutDependencies, 'keys' | 'clock'>,
): Promise<LogoutClaims> => {
  const payload = readLogoutToken(token, issuer)
  try {
    await verifyByAnyKey(token, keys(issuer), {
      issuer: issuer.issuer,
      algorithms: [...issuer.algorithms],
      currentDate: new Date(clock.now()),
    })
  } catch (error) {
    if (!(error instanceof errors.JOSEError)) throw error
    throw new LogoutFailure('it has expired, or is not signed by a key of its issuer', { cause: error })
  }
  const claims = claimsSchema.safeParse(presentClaims(payload)).data
  if (claims === undefined) throw new LogoutFailure('it lacks a claim of a logout token, or has a nonce')
  if (![claims.aud].flat().includes(clientId))
    throw new LogoutFailure("its aud is not the client of the tenant's sign_in")
  const age = clock.now() / 1000 - claims.iat
  if (age < -LEEWAY_S || age > MAX_AGE_S) throw new LogoutFailure('its iat is in the future, or too old')
  return claims
}

/** The user and session that a logout ends. `sub` names the user by the same mapping as in a token of that issuer. @throws LogoutFailure */
const endedBy = ({ sub, sid }: LogoutClaims, { tenant, issuer }: SignIn, fingerprint: Fingerprint): Ended => {
  const user = sub !== undefined && issuer.claims.user === 'sub' ? userOf({ sub }, issuer) : undefined
  if (sid !== undefined)
    return { user, session: sessionIdOf({ tenant: tenant.tenant, issuer: issuer.issuer, sid }, fingerprint) }
  if (user === undefined)
    throw new LogoutFailure("it names no session, and its sub does not name users by the tenant's file")
  return { user, session: undefined }
}

/** Verifies a logout and ends what it names, once. @throws LogoutFailure, DeputyError */
const receiveLogout = async (
  signIn: SignIn,
  body: Buffer,
  correlationId: string,
  deps: LogoutDependencies,
): Promise<void> => {
  const { tenant, issuer } = signIn
  const claims = await verifyLogoutToken(parseForm(body).required('logout_token'), signIn, deps)
  const namespace = `logout ${tenant.tenant} ${issuer.issuer}`
  if (await deps.replays.has(namespace, claims.jti, deps.clock.now())) return
  await createEnding(deps)(endedBy(claims, signIn, deps.fingerprint), {
    tenant: tenant.tenant,
    by: `logout at ${issuer.issuer}`,
    reason: 'back-channel logout',
    correlationId,
    sessionLifetime: issuer.session_lifetime,
    facts: { type: EVENT, transmitter: issuer.issuer, event: claims.jti },
  })
  // Last: when the daemon is killed before, the issuer, or its admin, sends the logout again.
  await deps.replays.claim(namespace, claims.jti, deps.clock.now() + 2 * MAX_AGE_S * 1000)
}

const refuseLogout = (response: Response, thrown: unknown, correlationId: string, logger: Logger): void => {
  if (thrown instanceof LogoutFailure) {
    logger.warn({ correlation_id: correlationId }, `logout refused: ${thrown.message}`)
    response.status(400).json({ error: 'invalid_request', error_description: thrown.message })
    return
  }
  const error = asDeputyError(thrown)
  logger.warn({ err: error, correlation_id: correlationId }, 'logout failed; the session was not ended')
  response.status(error.kind.status).json({ error: error.kind.oauth, error_description: error.message })
}

const answerLogout = async (
  request: Request,
  response: Response,
  limit: ConcurrencyLimit,
  deps: LogoutDependencies,
): Promise<void> => {
  const correlationId = deps.correlationId()
  response.setHeader('x-correlation-id', correlationId)
  response.setHeader('cache-control', 'no-store')
  let release: (() => void) | undefined
  try {
    // Read first: a body that comes slowly does not count as concurrent work.
    const body = await readBody(request, MAX_BODY_BYTES)
    const signIn = signInOf(request, deps.snapshot)
    release = limit.acquire(signIn.issuer.issuer)
    if (release === undefined) {
      response.setHeader('retry-after', '1').status(503).end()
      return
    }
    await receiveLogout(signIn, body, correlationId, deps)
    response.status(200).end()
  } catch (thrown) {
    refuseLogout(response, thrown, correlationId, deps.logger)
  } finally {
    release?.()
  }
}

/**
 * OpenID Connect Back-Channel Logout 1.0: a user has logged out at the company's identity provider, or an admin has
 * ended the session there, and the tokens and sign-ins of that session end here as well. Grants at services stay, because the
 * user did not revoke them. A logout token that names the user only ends all that the user has, as a security event does.
 */
export const createBackChannelLogout = (deps: LogoutDependencies): Router => {
  const limit = new ConcurrencyLimit(CONCURRENCY)
  const router = Router()
  router.post('/:tenant', (request, response, next) => {
    answerLogout(request, response, limit, deps).catch(next)
  })
  return router
}
