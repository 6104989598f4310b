import { z } from 'zod'
import type { Server } from '#config'
import { type DeputyError, refuse } from '#errors'
import type { ActorClaim, ProofBinding } from '#oauth'
import { scopesOf, subjectClaimsSchema, type SubjectClaims } from './claims.ts'

/** Seconds by which another's clock may be ahead of ours. The end of a token is its end: nothing outlives it (promise 1). */
export const LEEWAY = 30

/**
 * The earliest moment at which a token of this `iat` (seconds) can have been issued, by Deputy's clock (ms): a token whose
 * issuer's clock is ahead counts as issued before a revocation that may have come after it, first seen or not.
 */
export const earliestIssueOf = (iat: number | undefined): number => ((iat ?? 0) - LEEWAY) * 1000

export const invalid = (problem: string, cause?: unknown): DeputyError =>
  refuse('subject_token_invalid', { problem }, cause)

/**
 * Claims of the forms that the standards say. @param payload without those that are null (`presentClaims`) @throws
 * DeputyError `subject_token_invalid`
 */
export const parseClaims = (payload: Readonly<Record<string, unknown>>): SubjectClaims => {
  const parsed = subjectClaimsSchema.safeParse(payload)
  if (!parsed.success)
    throw invalid(
      payload['aud'] === undefined && payload['sub'] === undefined
        ? 'it names neither a user nor an audience; if it is a lightweight token, introspection.for: all in the file of the tenant asks its issuer for what it leaves out'
        : `its claim ${String(parsed.error.issues[0]?.path[0] ?? '')} is missing or malformed`,
    )
  return parsed.data
}

export const expired = (at: number): DeputyError => {
  const date = new Date(at)
  return refuse('subject_token_expired', {
    expired_at: Number.isNaN(date.getTime()) ? 'a time long ago' : date.toISOString(),
  })
}

/** @throws DeputyError `subject_token_expired`, `subject_token_invalid` */
export const assertTimes = ({ exp, nbf, iat }: SubjectClaims, now: number): void => {
  const seconds = now / 1000
  if (exp <= seconds) throw expired(exp * 1000)
  if ((nbf ?? 0) - LEEWAY > seconds || (iat ?? 0) - LEEWAY > seconds) throw invalid('it is not valid yet')
}

/**
 * When a token ends (ms since the epoch). One that names its session ends no later than a logout of that session is
 * remembered, or it would count again when the logout is forgotten; one that does not say when it was issued may be as old as that.
 */
export const endOf = (
  { exp, iat }: { readonly exp: number; readonly iat?: number | undefined },
  sessions: readonly string[],
  sessionLifetime: number,
): number => (sessions.length === 0 ? exp * 1000 : Math.min(exp * 1000, (iat ?? 0) * 1000 + sessionLifetime))

interface AudienceClaims {
  readonly iss: string
  readonly aud: readonly string[]
  readonly scope?: unknown
  readonly scp?: unknown
}

/**
 * Whether the server's file lists an audience of the token in place of its resource. `aud` of an ID token may be the very same GUID,
 * and an ID token of Entra can lack all that marks one; it names no scopes, though, and an access token for a user does.
 */
const isAcceptedAudience = (
  { iss, aud, scope, scp }: AudienceClaims,
  { accepted_audiences: accepted }: Server,
): boolean =>
  scopesOf({ scope, scp }).length > 0 &&
  accepted.some(({ issuer, audience }) => issuer === iss && aud.includes(audience))

/**
 * Promise 2. A token with several audiences counts if ours is among them: its issuer meant it for us as well. Whether
 * an issuer may hand out such tokens is for its administrator to say, by not asking for several resources at once.
 */
export const assertAudience = (claims: AudienceClaims, server: Server): void => {
  const { aud } = claims
  if (!aud.includes(server.resource) && !isAcceptedAudience(claims, server))
    throw refuse('subject_audience_mismatch', {
      audience: `${aud.join(', ').slice(0, 500)}${aud.length > 0 && aud.every((each) => each === 'account') ? " (Keycloak's default where no audience mapper names the server)" : ''}`,
      resource: server.resource,
    })
}

/** Threat 13: only the actor that a token names may use its delegation (RFC 8693 section 4.4). */
export const assertActor = ({ act, may_act: mayAct }: SubjectClaims, actor: string, server: string): void => {
  const named = mayAct ?? act
  if (named === undefined) return
  if (named.sub !== actor && named.client_id !== actor)
    throw refuse('actor_mismatch', {
      expected: named.sub.slice(0, 200),
      actual: actor === server ? server : actor.slice(0, 200),
    })
}

/**
 * What signed statements that are no access tokens say of themselves in `typ`, as Keycloak writes it into the payload.
 */
const OTHER_KINDS: ReadonlySet<string> = new Set(['id', 'id_token', 'refresh', 'offline', 'logout'])
const ACCESS_KINDS: ReadonlySet<string> = new Set(['bearer', 'dpop'])

/**
 * An issuer signs ID tokens and logout tokens with the keys of its access tokens, often under the same header `typ:
 * JWT`, and the `aud` of an ID
 * token is a client id, which may be a server's resource URI. They say who signed in, not what a server may do for the
 * user
 * (OpenID Connect Core section 3.1.3.6: `at_hash`, `c_hash`, `nonce`; Back-Channel Logout section 2.4: `events`).
 * @param headerType `typ` of the header, undefined for what an issuer has answered about a token
 * @throws DeputyError `subject_token_invalid`
 */
export const assertAccessToken = (claims: Readonly<Record<string, unknown>>, headerType: string | undefined): void => {
  const kind = typeof claims['typ'] === 'string' ? claims['typ'].toLowerCase() : undefined
  const isDeclared = (headerType?.toLowerCase().endsWith('at+jwt') ?? false) || ACCESS_KINDS.has(kind ?? '')
  const isIdToken =
    kind === 'id' ||
    kind === 'id_token' ||
    claims['at_hash'] !== undefined ||
    claims['c_hash'] !== undefined ||
    // Some issuers repeat the nonce in access tokens, and say that they are such.
    (claims['nonce'] !== undefined && !isDeclared)
  if (isIdToken) throw invalid('it is an ID token, which says who signed in; send the access token')
  if ((kind !== undefined && OTHER_KINDS.has(kind)) || claims['events'] !== undefined)
    throw invalid('it is a refresh, logout or event token; send the access token')
}

const ACTORS = 10

/** RFC 9449 section 6.1, RFC 8705 section 3.1. */
const confirmationSchema = z.union([z.object({ jkt: z.string() }), z.object({ 'x5t#S256': z.string() })])

/** The actors of a token, outermost first (RFC 8693 section 4.1). @throws DeputyError `subject_token_invalid` when there are more than ten: none is left out */
export const actorsOf = ({ act }: Pick<SubjectClaims, 'act'>): ActorClaim[] => {
  const actors: ActorClaim[] = []
  for (let actor = act; actor !== undefined; actor = actor.act) {
    if (actors.length === ACTORS)
      throw refuse('subject_token_invalid', { problem: `it names more than ${ACTORS} actors` })
    actors.push({
      sub: actor.sub,
      ...(actor.iss === undefined ? {} : { iss: actor.iss }),
      ...(actor.client_id === undefined ? {} : { client_id: actor.client_id }),
    })
  }
  return actors
}

/**
 * A token that is bound to a key counts only together with that key (RFC 9449 section 7.2, RFC 8705 section 3). The server that received it can
 * check that, and its file states whether it does. @throws DeputyError `subject_token_invalid`
 */
export const assertPossession = ({ cnf }: { readonly cnf?: unknown }, server: Server): void => {
  if (cnf !== undefined && !server.checks_possession)
    throw invalid(`it is bound to a key of its owner, and ${server.server} does not check who has that key`)
}

/** The key that a token is bound to; a binding that is neither to a DPoP key nor to a certificate is refused. @throws DeputyError `subject_token_invalid` */
export const confirmationOf = ({ cnf }: { readonly cnf?: unknown }): { confirmation?: ProofBinding } => {
  if (cnf === undefined) return {}
  const confirmation = confirmationSchema.safeParse(cnf)
  if (!confirmation.success) throw invalid('it is bound to a key in a way that Deputy does not know')
  return { confirmation: confirmation.data }
}
