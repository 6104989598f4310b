import { hash } from 'node:crypto'
import { decodeJwt, decodeProtectedHeader, errors, type JWTPayload } from 'jose'
import { createLru } from '#foundation/lru'
import type { Clock } from '#clock'
import type { CurrentSnapshot, Server } from '#config'
import { asDeputyError, DeputyError, refuse } from '#errors'
import { type Fingerprint, isCompactJws, refusedHeaderOf, Secret, verifySignatureByAnyKey } from '#foundation/crypto'
import type { SessionStore } from '#foundation/store'
import type { Telemetry } from '#foundation/telemetry'
import { ACCESS_TOKEN_TYPE, JWT_TOKEN_TYPE } from '#oauth'
import type { ReadMintedToken } from './minted-token.ts'
import {
  actorsOf,
  assertAccessToken,
  assertActor,
  assertAudience,
  assertPossession,
  assertTimes,
  earliestIssueOf,
  endOf,
  expired,
  invalid,
  parseClaims,
} from './checks.ts'
import {
  groupsOf,
  omittedOf,
  type OmittedClaims,
  presentClaims,
  scopesOf,
  userOf,
  type SubjectClaims,
} from './claims.ts'
import type { WatchClaims } from './claim-watch.ts'
import type { IssuerKeys } from './issuer-keys.ts'
import type { IntrospectedClaims, Introspect } from './introspection.ts'
import { identify, sessionsIn, tokenIdOf, type VerifiedSubject } from './subject.ts'
import { tenantOf, trustOf, type Trust, type Trusting } from './trust.ts'

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
  /** Called with the claims of each token that was verified anew. */
  readonly watchClaims?: WatchClaims
  /** Called when a verified token or sign-in of an issuer names its session. */
  readonly sessionNamed?: (of: { readonly tenant: string; readonly issuer: string }) => void
}

const LONGEST_TOKEN = 16_384
/** How long a verified token is taken at its word (ms): a key that its issuer has withdrawn must not count for longer. */
const KEPT = 600_000

/** Access tokens and nothing else: assertions, proofs and events are signed by the same keys and must not pass for one (RFC 8725 section 3.11). */
const TYPES = new Set(['jwt', 'at+jwt', 'application/at+jwt'])

const withOmitted = (omitted: OmittedClaims | undefined): { omitted?: OmittedClaims } =>
  omitted === undefined ? {} : { omitted }

interface Verified {
  readonly subject: VerifiedSubject
  readonly claims: SubjectClaims
}

/**
 * Verifies whom a server acts for. A token counts only if a tenant's trusted issuer signed it (or confirmed it, when
 * it is opaque), if it is meant for the calling server, and if whoever it names as its actor is the one who acts.
 * Which issuer it is decided by the verified claims, never by how the token looks.
 */
export const createSubjectVerifier = (deps: SubjectDependencies): SubjectVerifier => {
  const verified = createLru<string, { subject: VerifiedSubject; at: number }>({ max: 20_000 })

  const sessionsOf = (
    of: { readonly tenant: string; readonly issuer: string },
    claims: Readonly<Record<string, unknown>>,
  ): readonly string[] => {
    const sessions = sessionsIn(of, claims, deps.fingerprint)
    if (sessions.length > 0) deps.sessionNamed?.({ tenant: of.tenant, issuer: of.issuer })
    return sessions
  }

  /**
   * What its issuer says about a JWT, where the tenant's file wants it asked about each. What the token says itself is
   * signed, and counts first.
   * @throws DeputyError `subject_token_invalid` when it is not, or no longer, active there; those of introspection
   */
  const confirmedClaims = async (token: string, claims: JWTPayload, trusted: Trusting): Promise<IntrospectedClaims> => {
    if (trusted.issuer.introspection?.for !== 'all') return {}
    const answer = await deps.introspect(new Secret(token), trusted.issuer, trusted.tenant.tenant)
    if (answer === undefined) throw invalid('it is no longer active at its issuer')
    const confirmed = presentClaims(answer)
    assertAccessToken(confirmed, 'at+jwt')
    for (const name of ['iss', 'sub', 'jti'] as const)
      if (confirmed[name] !== undefined && claims[name] !== undefined && confirmed[name] !== claims[name])
        throw invalid('its issuer confirms another token than this one')
    return confirmed
  }

  /**
   * Checks signature, type and times of a JWT of a trusted issuer; its audience is for the caller to check. Tenants
   * that share an issuer each say where its keys are and which algorithms count, so the tenant is chosen first, by
   * claims that are not believed yet, and the token then has to be good by the word of that very tenant: no tenant
   * can vouch for tokens of another (promise 8).
   */
  const verifyJwt = async (
    token: string,
    server: Server,
    choose: (claims: JWTPayload, trust: Trust) => Trusting,
  ): Promise<{ claims: SubjectClaims; trusted: Trusting }> => {
    let unverified: JWTPayload
    let header
    try {
      unverified = presentClaims(decodeJwt(token))
      header = decodeProtectedHeader(token)
    } catch (error) {
      throw invalid('it is no JWT', error)
    }
    const type: unknown = header.typ
    if (type !== undefined && !(typeof type === 'string' && TYPES.has(type.toLowerCase())))
      throw invalid(`its type ${String(type).slice(0, 40)} is not that of an access token`)
    const refused = refusedHeaderOf(header)
    if (refused !== undefined) throw invalid(`its header carries ${refused}`)
    assertAccessToken(unverified, type)
    const trust = trustOf(server, deps.snapshot())
    if (trust.of(unverified.iss).length === 0)
      throw refuse('subject_issuer_unknown', { issuer: String(unverified.iss).slice(0, 200), server: server.server })
    const trusted = choose(unverified, trust)
    try {
      await verifySignatureByAnyKey(token, deps.keys(trusted.issuer), { algorithms: [...trusted.issuer.algorithms] })
    } catch (error) {
      throw toSubjectError(error)
    }
    const claims = parseClaims({ ...(await confirmedClaims(token, unverified, trusted)), ...unverified })
    if (claims.iss !== trusted.issuer.issuer) throw invalid('its claim iss is not as it should be')
    assertTimes(claims, deps.clock.now())
    return { claims, trusted }
  }

  const fromJwt = async ({ token, server }: SubjectRequest): Promise<Verified> => {
    const { claims, trusted } = await verifyJwt(token.reveal(), server, (unverified, trust) =>
      trust.tenantOf(unverified.iss, unverified),
    )
    assertAudience(claims, server)
    assertPossession(claims, server)
    const how = trusted.issuer.introspection?.for === 'all' ? 'introspection' : 'jwt'
    return { claims, subject: toSubject(claims, trusted, token, how) }
  }

  /**
   * An opaque token does not say whose it is, and to ask about it is to show it. So it is shown to the issuers of one
   * tenant only, or to one that several tenants ask in the same way; otherwise one tenant's issuer would get to see
   * the tokens of another's users, and could vouch for them.
   */
  const fromOpaque = async ({ token, server }: SubjectRequest): Promise<Verified> => {
    const asked = trustOf(server, deps.snapshot()).all.filter(({ issuer }) => issuer.introspection !== undefined)
    const ways = [
      ...new Map(
        asked.map((trusted) => [JSON.stringify([trusted.issuer.issuer, trusted.issuer.introspection]), trusted]),
      ).values(),
    ]
    const tenants = new Set(asked.map(({ tenant }) => tenant.tenant))
    if (ways.length > 1 && tenants.size > 1)
      throw invalid('it is opaque, and the issuers of several tenants would have to be shown it: send a JWT')
    for (const trusted of ways) {
      const answer = await deps.introspect(token, trusted.issuer, trusted.tenant.tenant)
      if (answer === undefined) continue
      const claims = parseClaims({ iss: trusted.issuer.issuer, ...presentClaims(answer) })
      if (claims.iss !== trusted.issuer.issuer) throw invalid('the issuer that confirmed it names another issuer')
      // Who confirms it has said that it is a token to be used; what an answer holds beside that may be of any form.
      assertAccessToken(claims, 'at+jwt')
      assertTimes(claims, deps.clock.now())
      assertAudience(claims, server)
      assertPossession(claims, server)
      return {
        claims,
        subject: toSubject(claims, tenantOf(claims, ways.length > 1 ? [trusted] : asked), token, 'introspection'),
      }
    }
    throw invalid(
      ways.length === 0 ? 'it is no JWT, and no issuer confirms opaque tokens' : 'no trusted issuer knows it as active',
    )
  }

  /** A token that Deputy minted for this server: the next link of a delegation chain (RFC 8693 section 4.1). */
  const fromMinted = ({ token, server }: SubjectRequest): VerifiedSubject => {
    const claims = deps.readMintedToken(token)
    if (claims === undefined) throw invalid('it is not, or no longer, a token of this Deputy')
    assertAudience(claims, server)
    assertPossession(claims, server)
    const tenant = deps.snapshot().tenants.get(claims.tenant)
    if (tenant?.enabled !== true) throw refuse('subject_tenant_unknown')
    if (claims.act === undefined) throw invalid('it was issued to a server for itself, not for a user')
    return {
      // A minted token names the user alone: groups and other claims are the issuer's to tell, and go to no service.
      tenant,
      user: claims.sub,
      issuer: claims.iss,
      groups: [],
      claims: {},
      scopes: scopesOf({ scope: claims.scope }),
      how: 'jwt',
      issuedAt: claims.iat * 1000,
      earliestIssue: claims.iat * 1000,
      expiresAt: claims.exp * 1000,
      tokenId: claims.jti,
      ancestors: claims.anc,
      actors: actorsOf(claims as unknown as SubjectClaims),
    }
  }

  const toSubject = (
    claims: SubjectClaims,
    { tenant, issuer }: Trusting,
    token: Secret,
    how: VerifiedSubject['how'],
  ): VerifiedSubject => {
    deps.watchClaims?.(tenant.tenant, issuer, claims)
    const sessions = sessionsOf({ tenant: tenant.tenant, issuer: issuer.issuer }, claims)
    const expiresAt = endOf(claims, sessions, issuer.session_lifetime)
    if (expiresAt <= deps.clock.now())
      throw invalid('it names a session, and is older than a logout of that is remembered, or does not say its age')
    return {
      tenant,
      user: userOf(claims, issuer),
      issuer: issuer.issuer,
      groups: groupsOf(claims, issuer),
      ...withOmitted(omittedOf(claims, issuer)),
      claims,
      scopes: scopesOf(claims),
      how,
      ...(claims.acr === undefined ? {} : { acr: claims.acr }),
      // A token that does not say when it was issued was issued before every revocation: the cautious reading.
      issuedAt: Math.min((claims.iat ?? 0) * 1000, deps.clock.now()),
      earliestIssue: earliestIssueOf(claims.iat),
      expiresAt,
      tokenId: identify({ issuer: issuer.issuer, jti: claims.jti, token }, deps.fingerprint),
      ancestors: sessions,
      actors: actorsOf(claims),
    }
  }

  /** Who acts: the subject of a verified actor token, else the attested server. @throws DeputyError `actor_token_invalid` */
  const actingParty = async (
    { actorToken, actorTokenType, server }: SubjectRequest,
    tenant: string,
  ): Promise<string> => {
    if (actorToken === undefined) return server.server
    const bad = (problem: string, cause?: unknown) =>
      refuse('actor_token_invalid', { problem, server: server.server }, cause)
    if (actorTokenType !== ACCESS_TOKEN_TYPE && actorTokenType !== JWT_TOKEN_TYPE)
      throw bad('its type is not supported')
    const minted = deps.readMintedToken(actorToken)
    if (minted !== undefined) {
      if (minted.sub !== server.server || minted.tenant !== tenant || minted.act !== undefined)
        throw bad('it is not about the calling server')
      return minted.sub
    }
    if (actorToken.reveal().length > LONGEST_TOKEN) throw bad(`it is longer than ${LONGEST_TOKEN} characters`)
    const ofTenant = ({ iss }: JWTPayload, trust: Trust): Trusting => {
      const trusted = trust.of(iss).find((candidate) => candidate.tenant.tenant === tenant)
      if (trusted === undefined) throw bad('it is of another tenant')
      return trusted
    }
    let claims: SubjectClaims
    try {
      ;({ claims } = await verifyJwt(actorToken.reveal(), server, ofTenant))
    } catch (error) {
      if (error instanceof DeputyError && (error.code === 'actor_token_invalid' || error.kind.retryable)) throw error
      throw bad('its signature, times or issuer are not accepted', error)
    }
    // It is addressed to whoever exchanges it, or to the server that it is about (RFC 8693 section 2.1).
    if (!claims.aud.some((audience) => audience === deps.ownIssuer() || audience === server.resource))
      throw bad('it is meant for somebody else')
    const { sub, client_id: clientId } = claims
    if (sub !== server.server && clientId !== server.server) throw bad('it is not about the calling server')
    return sub ?? server.server
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
    if (tokenType !== ACCESS_TOKEN_TYPE && tokenType !== JWT_TOKEN_TYPE)
      throw refuse('unsupported_token_type', { token_type: tokenType.slice(0, 100), parameter: 'subject_token_type' })
    const text = token.reveal()
    if (text === '') throw refuse('parameter_missing', { parameter: 'subject_token' })
    if (text.length > LONGEST_TOKEN) throw invalid(`it is longer than ${LONGEST_TOKEN} characters`)
    // RFC 6750 section 2.1: no token has a space in it. Decoders skip them, so that one token could have several texts.
    if (!/^[\x21-\x7e]+$/.test(text)) throw invalid('it holds a space, a line break or another character of no token')
  }

  /** What a text of a good token was asked before: it is read again only where the text is not known. */
  const assertReadable = ({ token, tokenType }: SubjectRequest): void => {
    const text = token.reveal()
    const issuer = issuerNamedBy(text)
    if (issuer !== undefined && !isCompactJws(text)) throw invalid('it is no JWT in compact form')
    if (tokenType === JWT_TOKEN_TYPE && issuer === undefined) throw invalid('it is no JWT with an issuer')
  }

  /** A token is verified once for a server and a configuration; later uses check its end alone. Opaque ones are asked about again. */
  const verifyOnce = async (request: SubjectRequest): Promise<VerifiedSubject> => {
    assertUsable(request)
    if (request.actorToken !== undefined) {
      assertReadable(request)
      return verifyAnew(request)
    }
    const key = `${deps.snapshot().generation} ${request.server.server} ${hash('sha256', request.token.reveal(), 'base64')}`
    const known = verified.get(key)
    const now = deps.clock.now()
    if (known !== undefined && now - known.at < KEPT) {
      if (known.subject.expiresAt <= now) throw expired(known.subject.expiresAt)
      return known.subject
    }
    assertReadable(request)
    const subject = await verifyAnew(request)
    if (subject.how === 'jwt') verified.set(key, { subject, at: now })
    return subject
  }

  /** A session lasts only as long as its tenant is enabled and trusts the issuer that signed the user in. */
  const ofSession = async ({ uid, server }: { uid: number; server: Server }): Promise<VerifiedSubject> => {
    if (!server.login_session) throw refuse('subject_session_not_allowed', { server: server.server })
    const session = await deps.sessions.find(uid, deps.clock.now())
    const tenant = session === undefined ? undefined : deps.snapshot().tenants.get(session.tenant)
    const trusted = tenant?.issuers.find(({ issuer }) => issuer === session?.issuer)
    if (session === undefined || tenant?.enabled !== true || trusted === undefined)
      throw refuse('subject_session_missing', { uid })
    return {
      tenant,
      user: session.user,
      issuer: session.issuer,
      groups: session.groups,
      ...withOmitted(omittedOf(session.claims, trusted)),
      claims: session.claims,
      how: 'login_session',
      issuedAt: session.signedInAt,
      earliestIssue: session.signedInAt,
      expiresAt: session.expiresAt,
      tokenId: tokenIdOf(session.issuer, `session:${uid}:${session.signedInAt}`),
      ancestors: sessionsOf(session, session.claims),
      actors: [],
    }
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

    async fromSession(request) {
      try {
        const subject = await ofSession(request)
        deps.telemetry.subject({ how: 'login_session', outcome: 'verified' })
        return subject
      } catch (thrown) {
        const error = asDeputyError(thrown)
        deps.telemetry.subject({ how: 'login_session', outcome: 'refused', error: error.code })
        throw error
      }
    },
  }
}

/** The issuer that a JWT names, before anything is believed: it only says which keys to try. Undefined: no JWT. */
const issuerNamedBy = (token: string): string | undefined => {
  try {
    return decodeJwt(token).iss
  } catch {
    return undefined
  }
}

/** What jose or a key found wrong. Its errors can carry the claims, which have no place in a log, so they are not passed on as a cause. */
const toSubjectError = (error: unknown): DeputyError => {
  if (error instanceof DeputyError) return error
  if (error instanceof errors.JWTExpired) return expired((error.payload.exp ?? 0) * 1000)
  if (error instanceof errors.JWTClaimValidationFailed)
    return invalid(`its claim ${error.claim} is not as it should be`)
  if (error instanceof errors.JOSEAlgNotAllowed) return invalid('its algorithm is not allowed for this issuer')
  if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWSSignatureVerificationFailed)
    return invalid('it is not signed by a key of its issuer')
  if (error instanceof errors.JOSEError) return invalid('it is malformed')
  // A key that cannot be used: too short, or not of the curve that it names.
  return invalid('it could not be checked with the key of its issuer', error)
}
