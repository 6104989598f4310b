import { decodeJwt, decodeProtectedHeader, errors, type JWTPayload } from 'jose'
import { z } from 'zod'
import type { Clock } from '#clock'
import type { SignalTransmitter } from '#config'
import { refusedHeaderOf, verifyByAnyKey } from '#foundation/crypto'
import { ownValue } from '#foundation/text'
import type { IssuerKeys } from '#identity/subject'

/** Error codes of RFC 8935 section 2.4. */
export type DeliveryError =
  'invalid_request' | 'invalid_key' | 'invalid_issuer' | 'invalid_audience' | 'authentication_failed' | 'access_denied'

/** What is wrong with a delivery, in the words of RFC 8935. */
export class DeliveryFailure extends Error {
  override readonly name = 'DeliveryFailure'
  readonly err: DeliveryError
  constructor(err: DeliveryError, description: string, cause?: unknown) {
    super(description, { cause })
    this.err = err
  }
}

/** https://openid.net/specs/openid-caep-1_0-final.html and https://openid.net/specs/openid-sharedsignals-framework-1_0-final.html */
export const EVENTS = {
  sessionRevoked: 'https://schemas.openid.net/secevent/caep/event-type/session-revoked',
  credentialChange: 'https://schemas.openid.net/secevent/caep/event-type/credential-change',
  verification: 'https://schemas.openid.net/secevent/ssf/event-type/verification',
} as const

/** Subject identifiers (RFC 9493) that can name a user; `complex` is the framework's, and the user is one of its members. */
const simpleSubjectSchema = z.union([
  z.looseObject({ format: z.literal('iss_sub'), iss: z.string(), sub: z.string().min(1).max(512) }),
  z.looseObject({ format: z.literal('email'), email: z.string().min(3).max(512) }),
])
const sessionSchema = z.looseObject({ format: z.literal('opaque'), id: z.string().min(1).max(512) })
const subjectSchema = z.union([
  simpleSubjectSchema,
  z.looseObject({
    format: z.literal('complex').optional(),
    user: simpleSubjectSchema,
    session: sessionSchema.optional(),
  }),
])
export type EventSubject = z.output<typeof simpleSubjectSchema>

const claimsSchema = z.looseObject({
  iss: z.string(),
  aud: z.union([z.string(), z.array(z.string())]),
  iat: z.number(),
  jti: z.string().min(1).max(512),
  events: z.record(
    z.string(),
    z.looseObject({
      change_type: z.string().optional(),
      subject: z.unknown().optional(),
      reason_admin: z.unknown().optional(),
    }),
  ),
  sub_id: z.unknown().optional(),
})

export interface SecurityEvent {
  readonly id: string
  readonly type: string
  /** Of credential-change: what has happened to the credential. */
  readonly changeType: string | undefined
  /** Undefined where nothing in it can name a user. */
  readonly subject: EventSubject | undefined
  /** The id of the session at the issuer, when it names one as well as the user. */
  readonly session: string | undefined
}

const LEEWAY = 60
/** How old a token may be (ms): as long as the ids of those received are remembered. */
export const MAX_AGE_MS = 30 * 86_400_000
const TYPE = 'secevent+jwt'

const subjectOf = (claims: z.output<typeof claimsSchema>, type: string): Pick<SecurityEvent, 'subject' | 'session'> => {
  // Before RFC 9493 was final the subject stood within the event.
  const parsed = subjectSchema.safeParse(claims.sub_id ?? ownValue(claims.events, type)?.subject)
  if (!parsed.success) return { subject: undefined, session: undefined }
  if (!('user' in parsed.data)) return { subject: parsed.data as EventSubject, session: undefined }
  const { user, session } = parsed.data as { user: EventSubject; session?: z.output<typeof sessionSchema> }
  return { subject: user, session: session?.id }
}

/**
 * Verifies Security Event Tokens (RFC 8417) of configured transmitters: explicit type (section 2.3), signature, issuer,
 * audience and id. There is no `exp` to look at: when an event may still be delivered is for its receiver to say.
 */
export const createEventVerifier =
  (deps: { readonly keys: IssuerKeys; readonly clock: Clock }) =>
  /** @throws DeliveryFailure */
  async (
    token: string,
    transmitters: readonly SignalTransmitter[],
  ): Promise<{ event: SecurityEvent; transmitter: SignalTransmitter }> => {
    let header
    let unverified: JWTPayload
    try {
      header = decodeProtectedHeader(token)
      unverified = decodeJwt(token)
    } catch (error) {
      throw new DeliveryFailure('invalid_request', 'The body is not a security event token.', error)
    }
    if (typeof header.typ !== 'string' || header.typ.toLowerCase().replace(/^application\//, '') !== TYPE)
      throw new DeliveryFailure('invalid_request', `The type of the token is not ${TYPE}.`)
    if (refusedHeaderOf(header) !== undefined)
      throw new DeliveryFailure('invalid_request', 'The header carries a key or an extension.')
    const transmitter = transmitters.find((each) => each.issuer === unverified.iss)
    if (transmitter === undefined)
      throw new DeliveryFailure('invalid_issuer', "The issuer is not one of this tenant's transmitters.")
    let payload: JWTPayload
    try {
      ;({ payload } = await verifyByAnyKey(token, deps.keys(transmitter), {
        issuer: transmitter.issuer,
        algorithms: [...transmitter.algorithms],
        currentDate: new Date(deps.clock.now()),
      }))
    } catch (error) {
      if (!(error instanceof errors.JOSEError)) throw error
      throw new DeliveryFailure('invalid_key', 'The signature is not by a key of the issuer.', error)
    }
    const parsed = claimsSchema.safeParse(payload)
    if (!parsed.success)
      throw new DeliveryFailure('invalid_request', 'The token lacks claims of a security event token.')
    const claims = parsed.data
    if (![claims.aud].flat().includes(transmitter.audience))
      throw new DeliveryFailure('invalid_audience', 'The token is for another audience.')
    const now = deps.clock.now()
    if ((claims.iat - LEEWAY) * 1000 > now || claims.iat * 1000 < now - MAX_AGE_MS)
      throw new DeliveryFailure('invalid_request', 'The token is from the future, or too old.')
    const types = Object.keys(claims.events)
    if (types.length !== 1) throw new DeliveryFailure('invalid_request', 'The token has not exactly one event.')
    const type = types[0]!
    return {
      transmitter,
      event: {
        id: claims.jti,
        type,
        changeType: ownValue(claims.events, type)?.change_type,
        ...subjectOf(claims, type),
      },
    }
  }
