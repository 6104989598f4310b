import { hash } from 'node:crypto'
import type { Server } from '#config'
import { asDeputyError } from '#errors'
import { createLru } from '#foundation/lru'
import type { Telemetry } from '#foundation/telemetry'
import { actingParty } from './acting-party.ts'
import { assertActor, expired } from './checks.ts'
import type { SubjectDependencies, SubjectRequest } from './dependencies.ts'
import { fromJwt, fromOpaque } from './issuer-token.ts'
import { fromMinted } from './minted-subject.ts'
import { fromLoginSession } from './session-subject.ts'
import type { VerifiedSubject } from './subject.ts'
import { toSubject } from './to-subject.ts'
import { assertUsable, readableIssuer } from './token-text.ts'

export interface SubjectVerifier {
  /** @throws DeputyError of the category subject */
  verify(request: SubjectRequest): Promise<VerifiedSubject>
  /** The user for whom the Unix user has signed in. @throws DeputyError `subject_session_missing`, `subject_session_not_allowed` */
  fromSession(request: { uid: number; server: Server }): Promise<VerifiedSubject>
  /**
   * Until when a verified token counts without being verified anew (ms since the epoch); undefined where it is verified
   * each time.
   */
  countsUntil(subject: VerifiedSubject): number | undefined
}

/** Cache lifetime of a verified token (ms): a key that its issuer has withdrawn must not count for longer. */
const MAX_CACHE_MS = 600_000
/** Verified tokens that are cached at most. */
const MAX_CACHED = 20_000

/**
 * Verifies a token without the cache: Deputy's own, a JWT of an issuer, or an opaque token that an issuer confirms. Which of
 * them it is the verified claims decide; the issuer that the text names says only which keys to try.
 */
const verifyAnew = async (deps: SubjectDependencies, request: SubjectRequest): Promise<VerifiedSubject> => {
  const issuer = readableIssuer(request)
  if (issuer === deps.ownIssuer()) {
    const subject = await fromMinted(deps, request)
    await actingParty(deps, request, subject.tenant.tenant)
    return subject
  }
  const verified = issuer === undefined ? await fromOpaque(deps, request) : await fromJwt(deps, request)
  const subject = toSubject(deps, verified)
  const actor = await actingParty(deps, request, subject.tenant.tenant)
  assertActor(verified.claims, actor, request.server.server)
  return subject
}

/** Verifies a token once for a server and a configuration. Later uses check only its end. An opaque token is asked about each time. */
const createVerifyOnce = (deps: SubjectDependencies) => {
  const untils = new WeakMap<VerifiedSubject, number>()
  const verified = createLru<string, { subject: VerifiedSubject; at: number }>({ max: MAX_CACHED })
  const verifyOnce = async (request: SubjectRequest): Promise<VerifiedSubject> => {
    assertUsable(request)
    if (request.actorToken !== undefined) return verifyAnew(deps, request)
    const key = `${deps.snapshot().generation} ${request.server.server} ${hash('sha256', request.token.reveal(), 'base64')}`
    const known = verified.get(key)
    const now = deps.clock.now()
    if (known !== undefined && now - known.at < MAX_CACHE_MS) {
      if (known.subject.expiresAt <= now) throw expired(known.subject.expiresAt)
      return known.subject
    }
    const subject = await verifyAnew(deps, request)
    if (subject.how === 'jwt') {
      verified.set(key, { subject, at: now })
      untils.set(subject, Math.min(subject.expiresAt, now + MAX_CACHE_MS))
    }
    return subject
  }
  return { verifyOnce, countsUntil: (subject: VerifiedSubject) => untils.get(subject) }
}

/** Counts how a verification ended. @param how of a refusal, which has verified nothing */
const measured = async (
  telemetry: Telemetry,
  how: 'token' | 'login_session',
  work: () => Promise<VerifiedSubject>,
): Promise<VerifiedSubject> => {
  try {
    const subject = await work()
    telemetry.subject({ how: subject.how, outcome: 'verified' })
    return subject
  } catch (thrown) {
    const error = asDeputyError(thrown)
    telemetry.subject({ how, outcome: 'refused', error: error.code })
    throw error
  }
}

/**
 * Verifies the subject of a request. A token counts only if a trusted issuer of a tenant signed it (or confirmed it, when
 * it is opaque), if it is meant for the calling server, and if the actor that it names is the one that acts.
 */
export const createSubjectVerifier = (deps: SubjectDependencies): SubjectVerifier => {
  const { verifyOnce, countsUntil } = createVerifyOnce(deps)
  return {
    countsUntil,
    verify: (request) => measured(deps.telemetry, 'token', () => verifyOnce(request)),
    fromSession: (request) => measured(deps.telemetry, 'login_session', () => fromLoginSession(deps, request)),
  }
}
