import { createHash } from 'node:crypto'
import { decodeJwt, decodeProtectedHeader, errors, jwtVerify, type JWTPayload } from 'jose'
import { LRUCache } from 'lru-cache'
import type { Clock } from '../clock.ts'
import type { Server } from '../config/server.ts'
import type { CurrentSnapshot, Snapshot } from '../config/snapshot.ts'
import type { Tenant, TrustedIssuer } from '../config/tenant.ts'
import { servesTenant } from '../config/values.ts'
import { ACCESS_TOKEN_TYPE, JWT_TOKEN_TYPE } from '../connector/connector.ts'
import type { ReadMintedToken } from '../connector/minted-token.ts'
import type { Fingerprint } from '../crypto/fingerprint.ts'
import type { Secret } from '../crypto/secret.ts'
import { asDeputyError, refuse, type DeputyError } from '../errors.ts'
import type { Telemetry } from '../observe/telemetry.ts'
import type { SessionStore } from '../store/store.ts'
import { actorsOf, groupsOf, subjectClaimsSchema, tenantOf, userOf, type SubjectClaims } from './claims.ts'
import type { IssuerKeys } from './issuer-keys.ts'
import type { Introspect } from './introspection.ts'
import type { VerifiedSubject } from './subject.ts'

export interface SubjectRequest {
  readonly token: Secret
  readonly tokenType: string
  readonly server: Server
  readonly actorToken?: Secret
  readonly actorTokenType?: string
}

export interface SubjectVerifier {
  /** @throws DeputyError of the category subject */
  verify(request: SubjectRequest): Promise<VerifiedSubject>
  /** The user for whom the Unix user has signed in. @throws DeputyError `subject_session_missing`, `subject_session_not_allowed` */
  fromSession(request: { uid: number; server: Server }): Promise<VerifiedSubject>
}

export interface SubjectDependencies {
  readonly snapshot: CurrentSnapshot
  readonly keys: IssuerKeys
  readonly introspect: Introspect
  readonly sessions: SessionStore
  readonly readMintedToken: ReadMintedToken
  readonly ownIssuer: () => string
  readonly fingerprint: Fingerprint
  readonly clock: Clock
  readonly telemetry: Telemetry
}

const LONGEST_TOKEN = 16_384
/** Seconds by which clocks may differ. */
const LEEWAY = 30

/** Access tokens and nothing else: assertions, proofs and events are signed by the same keys and must not pass for one (RFC 8725 section 3.11). */
const TYPES = new Set([undefined, 'jwt', 'at+jwt', 'application/at+jwt'])
/** Header fields by which a token would bring its own key along, and extensions that we do not know (threat 14). */
const REFUSED_HEADERS = ['jwk', 'jku', 'x5u', 'x5c', 'crit']

interface Trusting { readonly tenant: Tenant; readonly issuer: TrustedIssuer }

/** Tenants that this server serves and that trust an issuer. */
const trustingTenants = (server: Server, snapshot: Snapshot): Trusting[] => [...snapshot.tenants.values()]
  .filter(({ tenant, enabled }) => enabled && servesTenant(server.tenants, tenant))
  .flatMap((tenant) => tenant.issuers.map((issuer) => ({ tenant, issuer })))

const invalid = (problem: string, cause?: unknown): DeputyError => refuse('subject_token_invalid', { problem }, cause)

/**
 * Verifies whom a server acts for. A token counts only if a tenant's trusted issuer signed it (or confirmed it, when
 * it is opaque), if it is meant for the calling server, and if whoever it names as its actor is the one who acts.
 * Which issuer it is decided by the verified claims, never by how the token looks.
 */
export const createSubjectVerifier = (deps: SubjectDependencies): SubjectVerifier => {
  const verified = new LRUCache<string, VerifiedSubject>({ max: 20_000 })
  const trusting = new WeakMap<Snapshot, Map<string, readonly Trusting[]>>()

  const trustingOf = (server: Server, snapshot: Snapshot): readonly Trusting[] => {
    let ofSnapshot = trusting.get(snapshot)
    if (ofSnapshot === undefined) trusting.set(snapshot, ofSnapshot = new Map())
    let found = ofSnapshot.get(server.server)
    if (found === undefined) ofSnapshot.set(server.server, found = trustingTenants(server, snapshot))
    return found
  }

  /** Checks signature, type and times of a JWT of a trusted issuer; its audience is for the caller to check. */
  const verifyJwt = async (token: string, server: Server): Promise<{ claims: JWTPayload; candidates: Trusting[] }> => {
    let issuer: string | undefined
    let header
    try { ({ iss: issuer } = decodeJwt(token)); header = decodeProtectedHeader(token) } catch (error) { throw invalid('it is no JWT', error) }
    if (!TYPES.has(header.typ?.toLowerCase())) throw invalid(`its type ${header.typ?.slice(0, 40)} is not that of an access token`)
    const refused = REFUSED_HEADERS.find((name) => name in header)
    if (refused !== undefined) throw invalid(`its header carries ${refused}`)
    const candidates = trustingOf(server, deps.snapshot()).filter((each) => each.issuer.issuer === issuer)
    const [first] = candidates
    if (first === undefined) throw refuse('subject_issuer_unknown', { issuer: String(issuer).slice(0, 200), server: server.server })
    try {
      const { payload } = await jwtVerify(token, deps.keys(first.issuer), {
        issuer: first.issuer.issuer, algorithms: [...first.issuer.algorithms], clockTolerance: LEEWAY, requiredClaims: ['exp', 'aud'],
        currentDate: new Date(deps.clock.now()),
      })
      return { claims: payload, candidates }
    } catch (error) { throw toSubjectError(error) }
  }

  const fromJwt = async ({ token, server }: SubjectRequest): Promise<{ subject: VerifiedSubject; claims: SubjectClaims }> => {
    const { claims: payload, candidates } = await verifyJwt(token.reveal(), server)
    const claims = parseClaims(payload)
    assertAudience(claims, server)
    return { claims, subject: toSubject(claims, tenantOf(claims, candidates), token, 'jwt') }
  }

  const fromOpaque = async ({ token, server }: SubjectRequest): Promise<{ subject: VerifiedSubject; claims: SubjectClaims }> => {
    const issuers = trustingOf(server, deps.snapshot()).filter(({ issuer }) => issuer.introspection !== undefined)
    for (const trusted of issuers) {
      const answer = await deps.introspect(token, trusted.issuer, trusted.tenant.tenant)
      if (answer === undefined) continue
      const claims = parseClaims({ iss: trusted.issuer.issuer, ...answer })
      if (claims.iss !== trusted.issuer.issuer) throw invalid('the issuer that confirmed it names another issuer')
      assertTimes(claims, deps.clock.now())
      assertAudience(claims, server)
      return { claims, subject: toSubject(claims, tenantOf(claims, [trusted]), token, 'introspection') }
    }
    throw invalid(issuers.length === 0 ? 'it is no JWT, and no issuer confirms opaque tokens' : 'no trusted issuer knows it as active')
  }

  /** A token that Deputy minted for this server: the next link of a delegation chain (RFC 8693 section 4.1). */
  const fromMinted = ({ token, server }: SubjectRequest): VerifiedSubject => {
    const claims = deps.readMintedToken(token)
    if (claims === undefined) throw invalid('it is not, or no longer, a token of this Deputy')
    assertAudience(claims, server)
    const tenant = deps.snapshot().tenants.get(claims.tenant)
    if (tenant?.enabled !== true) throw refuse('subject_tenant_unknown')
    if (claims.act === undefined) throw invalid('it was issued to a server for itself, not for a user')
    const { groups = [] } = claims as { groups?: string[] }
    return {
      tenant, user: claims.sub, issuer: claims.iss, groups, claims: {}, how: 'jwt',
      issuedAt: claims.iat * 1000, expiresAt: claims.exp * 1000, tokenId: claims.jti, ancestors: claims.anc,
      actors: actorsOf(claims as unknown as SubjectClaims),
    }
  }

  const toSubject = (claims: SubjectClaims, { tenant, issuer }: Trusting, token: Secret, how: VerifiedSubject['how']): VerifiedSubject => ({
    tenant, user: userOf(claims, issuer), issuer: issuer.issuer, groups: groupsOf(claims, issuer), claims, how,
    ...(claims.acr === undefined ? {} : { acr: claims.acr }),
    // A token that does not say when it was issued was issued before every revocation: the cautious reading.
    issuedAt: (claims.iat ?? 0) * 1000, expiresAt: claims.exp * 1000,
    tokenId: claims.jti === undefined ? deps.fingerprint(token) : `${issuer.issuer}#${claims.jti}`,
    ancestors: [], actors: actorsOf(claims),
  })

  /** Who acts: the subject of a verified actor token, else the attested server. @throws DeputyError `actor_token_invalid` */
  const actingParty = async ({ actorToken, actorTokenType, server }: SubjectRequest, tenant: string): Promise<string> => {
    if (actorToken === undefined) return server.server
    const bad = (problem: string, cause?: unknown) => refuse('actor_token_invalid', { problem, server: server.server }, cause)
    if (actorTokenType !== ACCESS_TOKEN_TYPE && actorTokenType !== JWT_TOKEN_TYPE) throw bad('its type is not supported')
    const minted = deps.readMintedToken(actorToken)
    if (minted !== undefined) {
      if (minted.sub !== server.server || minted.tenant !== tenant || minted.act !== undefined) throw bad('it is not about the calling server')
      return minted.sub
    }
    let checked
    try { checked = await verifyJwt(actorToken.reveal(), server) } catch (error) { throw bad('its signature, times or issuer are not accepted', error) }
    if (!checked.candidates.some((candidate) => candidate.tenant.tenant === tenant)) throw bad('it is of another tenant')
    const { sub, client_id: clientId } = checked.claims
    if (sub !== server.server && clientId !== server.server) throw bad('it is not about the calling server')
    return String(sub ?? clientId)
  }

  const verifyAnew = async (request: SubjectRequest): Promise<VerifiedSubject> => {
    const text = request.token.reveal()
    const issuer = issuerNamedBy(text)
    if (issuer === deps.ownIssuer()) {
      const subject = fromMinted(request)
      await actingParty(request, subject.tenant.tenant)
      return subject
    }
    const { subject, claims } = issuer === undefined ? await fromOpaque(request) : await fromJwt(request)
    const actor = await actingParty(request, subject.tenant.tenant)
    assertActor(claims, actor, request.server.server)
    return subject
  }

  const assertUsable = ({ token, tokenType }: SubjectRequest): void => {
    if (tokenType !== ACCESS_TOKEN_TYPE && tokenType !== JWT_TOKEN_TYPE) throw refuse('unsupported_token_type', { token_type: tokenType.slice(0, 100), parameter: 'subject_token_type' })
    const text = token.reveal()
    if (text === '') throw refuse('parameter_missing', { parameter: 'subject_token' })
    if (text.length > LONGEST_TOKEN) throw invalid(`it is longer than ${LONGEST_TOKEN} characters`)
    if (tokenType === JWT_TOKEN_TYPE && issuerNamedBy(text) === undefined) throw invalid('it is no JWT with an issuer')
  }

  /** A token is verified once for a server and a configuration; later uses check its end alone. Opaque ones are asked about again. */
  const verifyOnce = async (request: SubjectRequest): Promise<VerifiedSubject> => {
    assertUsable(request)
    if (request.actorToken !== undefined) return verifyAnew(request)
    const key = `${deps.snapshot().generation} ${request.server.server} ${createHash('sha256').update(request.token.reveal()).digest('base64')}`
    const known = verified.get(key)
    if (known !== undefined) {
      if (known.expiresAt + LEEWAY * 1000 <= deps.clock.now()) throw expired(known.expiresAt)
      return known
    }
    const subject = await verifyAnew(request)
    if (subject.how === 'jwt') verified.set(key, subject)
    return subject
  }

  return {
    async verify(request) {
      try {
        const subject = await verifyOnce(request)
        deps.telemetry.subject({ how: subject.how, outcome: 'verified' })
        return subject
      } catch (thrown) {
        const error = asDeputyError(thrown)
        deps.telemetry.subject({ how: 'token', outcome: 'refused', error: error.code })
        throw error
      }
    },

    async fromSession({ uid, server }) {
      if (!server.login_session) throw refuse('subject_session_not_allowed', { server: server.server })
      const session = await deps.sessions.find(uid, deps.clock.now())
      const tenant = session === undefined ? undefined : deps.snapshot().tenants.get(session.tenant)
      if (session === undefined || tenant?.enabled !== true) throw refuse('subject_session_missing', { uid })
      deps.telemetry.subject({ how: 'login_session', outcome: 'verified' })
      return {
        tenant, user: session.user, issuer: session.issuer, groups: session.groups, claims: session.claims, how: 'login_session',
        issuedAt: session.signedInAt, expiresAt: session.expiresAt, tokenId: `session:${uid}:${session.signedInAt}`, ancestors: [], actors: [],
      }
    },
  }
}

/** The issuer that a JWT names, before anything is believed: it only says which keys to try. Undefined: no JWT. */
const issuerNamedBy = (token: string): string | undefined => {
  try { return decodeJwt(token).iss } catch { return undefined }
}

const parseClaims = (payload: unknown): SubjectClaims => {
  const parsed = subjectClaimsSchema.safeParse(payload)
  if (!parsed.success) throw invalid(`its claim ${String(parsed.error.issues[0]?.path[0] ?? '')} is missing or malformed`)
  return parsed.data
}

const expired = (at: number): DeputyError => refuse('subject_token_expired', { expired_at: new Date(at).toISOString() })

const assertTimes = ({ exp, nbf, iat }: SubjectClaims, now: number): void => {
  const seconds = now / 1000
  if (exp + LEEWAY <= seconds) throw expired(exp * 1000)
  if ((nbf ?? 0) - LEEWAY > seconds || (iat ?? 0) - LEEWAY > seconds) throw invalid('it is not valid yet')
}

/**
 * Promise 2. A token with several audiences counts if ours is among them: its issuer meant it for us as well. Whether
 * an issuer may hand out such tokens is for its administrator to say, by not asking for several resources at once.
 */
const assertAudience = ({ aud }: { aud: readonly string[] }, server: Server): void => {
  if (!aud.includes(server.resource)) throw refuse('subject_audience_mismatch', { audience: aud.join(', ').slice(0, 500), resource: server.resource })
}

/** Threat 13: delegation that a token carries is for the actor that it names and for nobody else (RFC 8693 section 4.4). */
const assertActor = ({ act, may_act: mayAct }: SubjectClaims, actor: string, server: string): void => {
  const named = mayAct ?? act
  if (named === undefined) return
  if (named.sub !== actor && named.client_id !== actor) throw refuse('actor_mismatch', { expected: named.sub.slice(0, 200), actual: actor === server ? server : actor.slice(0, 200) })
}

const toSubjectError = (error: unknown): DeputyError => {
  if (error instanceof errors.JWTExpired) return expired((error.payload.exp ?? 0) * 1000)
  if (error instanceof errors.JWTClaimValidationFailed) return invalid(`its claim ${error.claim} is not as it should be`, error)
  if (error instanceof errors.JOSEAlgNotAllowed) return invalid('its algorithm is not allowed for this issuer', error)
  if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWSSignatureVerificationFailed || error instanceof errors.JWKSMultipleMatchingKeys) return invalid('it is not signed by a key of its issuer', error)
  if (error instanceof errors.JOSEError) return invalid('it is malformed', error)
  return asDeputyError(error)
}
