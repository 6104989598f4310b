import type { AuditLog } from '../audit/record.ts'
import { toSeconds, type Clock } from '../clock.ts'
import type { CurrentSnapshot, Snapshot } from '../config/snapshot.ts'
import type { Credential, CredentialRequest, Principal } from '../connector/connector.ts'
import type { Secret } from '../crypto/secret.ts'
import { asDeputyError, refuse } from '../errors.ts'
import type { Telemetry } from '../observe/telemetry.ts'
import type { Policy } from '../policy/decision.ts'
import type { Membership } from '../revocation/lease.ts'
import { describeScope, type Standing } from '../revocation/standing.ts'
import type { Holders } from '../rotation/holders.ts'
import type { VerifiedSubject } from '../subject/subject.ts'
import { assertApproved } from '../workload/attest.ts'
import type { AttestedWorkload, CallerEvidence } from '../workload/attestor.ts'
import { toRecord, type Account } from './account.ts'
import type { createObtain, Obtained } from './obtain.ts'
import { LOGIN_SESSION_TOKEN, LOGIN_SESSION_TOKEN_TYPE, type RequestOrigin, type TokenExchangeRequest, type TokenWish } from './request.ts'
import { questionOf } from './question.ts'
import { scopesWithin } from './scopes.ts'
import { assertUserServed } from './subject-state.ts'
import { resolveTarget } from './target.ts'

/** A successful answer of the token endpoint, before it becomes JSON (RFC 8693 section 2.2.1). */
export interface IssuedToken {
  readonly token: Secret
  readonly issuedTokenType: string
  readonly tokenType: 'Bearer' | 'N_A'
  /** Seconds. */
  readonly expiresIn: number
  readonly scopes: readonly string[]
  /** A warning for the caller, such as the server's being deprecated. */
  readonly warning?: string
}

export interface ExchangeDependencies {
  readonly snapshot: CurrentSnapshot
  readonly attest: (evidence: CallerEvidence, snapshot: Snapshot) => Promise<AttestedWorkload>
  readonly subjects: {
    verify(request: { token: Secret; tokenType: string; server: AttestedWorkload['server']; actorToken?: Secret; actorTokenType?: string }): Promise<VerifiedSubject>
    fromSession(request: { uid: number; server: AttestedWorkload['server'] }): Promise<VerifiedSubject>
  }
  readonly policy: () => Policy
  readonly obtain: ReturnType<typeof createObtain>
  readonly hold: Holders['hold']
  readonly standing: Standing
  readonly membership: Pick<Membership, 'assertHeld'>
  readonly audit: AuditLog
  readonly telemetry: Telemetry
  readonly clock: Clock
}

/** How many versions of a secret may replace each other while one is handed out. */
const VERSIONS = 3

/** Token exchange for a user, and client credentials for a workload itself. Both are the same straight line. */
export interface Exchange {
  exchange(origin: RequestOrigin, request: TokenExchangeRequest): Promise<IssuedToken>
  clientCredentials(origin: RequestOrigin, request: TokenWish): Promise<IssuedToken>
}

/**
 * The straight line of DESIGN: workload attested, subject verified, policy decides, credential obtained, record
 * durable, answer. Each step either adds to the account or refuses; a refusal is recorded like an issue, and when
 * the record cannot be written that is what the caller is told.
 */
export const createExchange = (deps: ExchangeDependencies): Exchange => {
  const { snapshot, standing, clock, telemetry } = deps

  /** Runs the steps, makes the outcome durable, and only then lets it go. */
  const accountFor = async (account: Account, steps: () => Promise<IssuedToken>): Promise<IssuedToken> => {
    let issued: IssuedToken
    try {
      issued = await steps()
      await telemetry.span('deputy.audit', {}, () => deps.audit.append(toRecord(account, clock.now())))
      assertInForce(account)
    } catch (thrown) {
      const error = asDeputyError(thrown)
      telemetry.exchange({ outcome: 'refused', error: error.code, ...metricLabels(account), seconds: (clock.now() - account.startedAt) / 1000 })
      if (error.code !== 'audit_unavailable') await deps.audit.append(toRecord(account, clock.now(), error))
      throw error
    }
    telemetry.exchange({ outcome: 'issued', ...metricLabels(account), seconds: (clock.now() - account.startedAt) / 1000 })
    return issued
  }

  const attest = (account: Account): Promise<AttestedWorkload> => telemetry.span('deputy.attest', {}, async () => {
    account.workload = await deps.attest(account.origin.evidence, snapshot())
    return account.workload
  })

  const verifySubject = (account: Account, request: TokenExchangeRequest): Promise<VerifiedSubject> => telemetry.span('deputy.verify_subject', {}, async () => {
    const { server } = account.workload!
    const subject = request.subjectTokenType === LOGIN_SESSION_TOKEN_TYPE
      ? await fromLoginSession(account, request)
      : await deps.subjects.verify({
        token: request.subjectToken, tokenType: request.subjectTokenType, server,
        ...(request.actorToken === undefined ? {} : { actorToken: request.actorToken }),
        ...(request.actorTokenType === undefined ? {} : { actorTokenType: request.actorTokenType }),
      })
    account.subject = subject
    assertUserServed(subject, server, standing)
    return subject
  })

  /** A login session stands for the Unix user whom the kernel names, never for one whom the request names. */
  const fromLoginSession = (account: Account, request: TokenExchangeRequest): Promise<VerifiedSubject> => {
    const { peer } = account.origin.evidence
    if (request.subjectToken.reveal() !== LOGIN_SESSION_TOKEN) throw refuse('subject_token_invalid', { problem: `for a login session subject_token is the word ${LOGIN_SESSION_TOKEN}` })
    if (request.actorToken !== undefined) throw refuse('actor_token_invalid', { problem: 'a login session takes none', server: account.workload!.server.server })
    if (peer === undefined) throw refuse('subject_token_invalid', { problem: 'a login session needs the Unix socket' })
    return deps.subjects.fromSession({ uid: peer.uid, server: account.workload!.server })
  }

  const decide = (account: Account, wish: TokenWish, tenant: string, uses: AttestedWorkload['server']['downstreams']): readonly string[] => {
    const { server } = account.workload!
    const current = snapshot()
    const target = account.target = resolveTarget(wish, server, uses, tenant, current)
    assertNotRevoked(account)
    const scopes = scopesWithin(wish.scopes, target, server, wish.tool)
    const decision = account.decision = deps.policy().decide(questionOf({
      server, tenant, target, scopes, subject: account.subject, tool: wish.tool, environment: current.settings.environment, now: clock.now(),
    }))
    telemetry.decision({ allowed: decision.allowed, credential: target.downstream.credential })
    if (!decision.allowed) throw refuse('policy_denied', { server: server.server, downstream: target.downstream.downstream })
    return decision.scopes
  }

  /** A version of a secret that rotates is handed out once it is written down who has it; if it was replaced meanwhile, the next one. */
  const obtainToHold = async (request: CredentialRequest, generation: number, { workload }: Account): Promise<Obtained> => {
    const peer = workload!.peer
    const who = {
      server: request.server.server, user: request.principal.kind === 'user' ? request.principal.user : null,
      process: peer?.startedAt === undefined ? undefined : `${peer.pid} ${peer.startedAt}`,
    }
    for (let attempt = 1; attempt <= VERSIONS; attempt += 1) {
      const obtained = await deps.obtain(request, generation)
      const { held, expiresAt } = obtained.credential
      if (held === undefined || await deps.hold(held, who, expiresAt)) return obtained
    }
    throw refuse('rotation_in_progress', { tenant: request.principal.tenant, secret: request.downstream.downstream, seconds: 1 })
  }

  const obtain = async (account: Account, principal: Principal, scopes: readonly string[], notAfter: number): Promise<Credential> => {
    const { subject, target, workload, origin } = account
    const current = snapshot()
    const tenant = current.tenants.get(principal.tenant)
    if (tenant === undefined) throw refuse('subject_tenant_unknown')
    const request = {
      principal, tenant, server: workload!.server, downstream: target!.downstream, scopes, notAfter,
      audiences: target!.audiences, priorActors: subject?.actors ?? [],
      ancestors: subject === undefined ? [] : [subject.tokenId, ...subject.ancestors], correlationId: origin.correlationId,
    }
    const { credential, cached, obtainedAt } = await telemetry.span('deputy.obtain', { 'deputy.downstream': target!.downstream.downstream }, () => obtainToHold(request, current.generation, account))
    account.credential = credential
    account.cached = cached
    account.obtainedAt = obtainedAt
    telemetry.cache({ outcome: cached ? 'hit' : 'miss' })
    return credential
  }

  const assertNotRevoked = ({ subject, tenant, workload, target, credential, startedAt, obtainedAt }: Account): void => {
    const revoked = standing.covering({
      tenant: subject?.tenant.tenant ?? tenant!, user: subject?.user, server: workload!.server.server,
      downstream: target?.downstream.downstream, grant: credential?.grant,
      provider: target?.downstream.credential === 'oauth_grant' ? target.downstream.provider : undefined,
      tokens: subject === undefined ? [] : [subject.tokenId, ...subject.ancestors], since: Math.min(subject?.issuedAt ?? startedAt, obtainedAt ?? Infinity),
    })
    if (revoked !== undefined) throw refuse('revoked', { scope: describeScope(revoked.scope), revoked_at: new Date(revoked.epoch).toISOString() })
  }

  const assertThawed = (tenant: string): void => { if (standing.isFrozen(tenant)) throw refuse('subject_tenant_frozen', { tenant }) }

  /**
   * The record may have waited for the disk, and a provider before that: asks again, so that a revocation confirmed
   * meanwhile holds (promise 4), and what an admin or a file has disabled meanwhile is disabled (threat 15).
   */
  const assertInForce = (account: Account): void => {
    deps.membership.assertHeld()
    assertNotRevoked(account)
    const { subject, workload, target, generation } = account
    const tenant = subject?.tenant.tenant ?? account.tenant!
    assertThawed(tenant)
    if (subject !== undefined && standing.isDisabled(tenant, subject.user)) throw refuse('subject_user_disabled', { tenant, user: subject.user })
    const current = snapshot()
    if (current.generation === generation) return
    const { server } = workload!.server
    const { downstream } = target!.downstream
    const registered = current.servers.get(server)
    if (registered === undefined) throw refuse('workload_unknown')
    assertApproved(registered)
    if (current.tenants.get(tenant)?.enabled !== true) throw refuse('subject_tenant_unknown')
    if (current.downstreams.get(downstream)?.enabled !== true) throw refuse('target_unknown', { target: downstream, server })
  }

  const metricLabels = ({ target, subject, tenant: own }: Account) => {
    const tenant = subject?.tenant.tenant ?? own
    return { ...(target === undefined ? {} : { credential: target.downstream.credential }), ...(tenant === undefined ? {} : { tenant }) }
  }

  const answer = (account: Account, credential: Credential, notAfter: number): IssuedToken => {
    const warning = account.workload!.warning
    return {
      token: credential.token, issuedTokenType: account.wish?.requestedTokenType ?? credential.issuedTokenType,
      tokenType: credential.tokenType, scopes: credential.scopes,
      expiresIn: Math.max(0, toSeconds(Math.min(credential.expiresAt, notAfter) - clock.now())),
      ...(warning === undefined ? {} : { warning }),
    }
  }

  return {
    exchange(origin, request) {
      const account: Account = { origin, event: 'token.exchange', startedAt: clock.now(), generation: snapshot().generation, wish: request }
      return accountFor(account, async () => {
        const { server } = await attest(account)
        const subject = await verifySubject(account, request)
        const scopes = decide(account, request, subject.tenant.tenant, server.downstreams)
        const credential = await obtain(account, { kind: 'user', tenant: subject.tenant.tenant, user: subject.user }, scopes, subject.expiresAt)
        return answer(account, credential, subject.expiresAt)
      })
    },

    clientCredentials(origin, request) {
      const account: Account = { origin, event: 'token.client_credentials', startedAt: clock.now(), generation: snapshot().generation, wish: request }
      return accountFor(account, async () => {
        const { server } = await attest(account)
        account.tenant = ownTenant(server, snapshot())
        assertThawed(account.tenant)
        const scopes = decide(account, request, account.tenant, server.own)
        const credential = await obtain(account, { kind: 'workload', tenant: account.tenant, server: server.server }, scopes, Infinity)
        return answer(account, credential, Infinity)
      })
    },
  }
}

/** The tenant in which a server acts for itself: the only one that it is registered for. */
const ownTenant = ({ server, tenants }: AttestedWorkload['server'], snapshot: Snapshot): string => {
  const [tenant, ...others] = tenants === '*' ? snapshot.tenants.keys() : tenants
  if (tenant === undefined || others.length > 0 || snapshot.tenants.get(tenant)?.enabled !== true) throw refuse('workload_own_tenant', { server })
  return tenant
}
