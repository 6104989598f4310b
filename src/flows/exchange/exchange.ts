import { type Clock, toSeconds } from '#clock'
import { type CurrentSnapshot, type Downstream, type Snapshot, wantsBound } from '#config'
import { type Credential, type CredentialRequest, kinds, type Principal, providerOf } from '#credentials/connector'
import { asDeputyError, DeputyError, refuse } from '#errors'
import type { Holders, HoldingProcess } from '#flows/rotation'
import type { AuditLog } from '#foundation/audit'
import type { Rates } from '#foundation/cache'
import type { Membership } from '#foundation/cluster'
import { type ProofKey, Secret } from '#foundation/crypto'
import type { Telemetry } from '#foundation/telemetry'
import type { Policy } from '#identity/policy'
import type { VerifiedSubject } from '#identity/subject'
import {
  assertNotRevoked,
  assertStillValid,
  assertThawed,
  assertUserServed,
  type Reliance,
  type Standing,
} from '#identity/validity'
import type { AttestedWorkload, CallerEvidence, CheckProof, ExecSession, ExecSessions } from '#identity/workload'
import { toRecord, type Account } from './account.ts'
import { authorize } from './authorize.ts'
import { confirmationFor } from './confirmation.ts'
import type { createObtain, Obtained } from './obtain.ts'
import { allowInjection, type AllowedInjection } from './injection.ts'
import {
  LOGIN_SESSION_TOKEN,
  LOGIN_SESSION_TOKEN_TYPE,
  type RequestOrigin,
  type TokenExchangeRequest,
  type TokenWish,
} from './request.ts'
import { assertToolScopes } from './tool.ts'
import { idsOf, resolveTarget } from './target.ts'

/** A successful answer of the token endpoint, before it becomes JSON (RFC 8693 section 2.2.1). */
export interface IssuedToken {
  readonly token: Secret
  readonly issuedTokenType: string
  readonly tokenType: 'Bearer' | 'DPoP' | 'N_A'
  /** Seconds. */
  readonly expiresIn: number
  readonly scopes: readonly string[]
  /** Further members of the answer, which the provider's file lets through. */
  readonly fields?: Readonly<Record<string, string>>
  /** A warning for the caller, such as the server's being deprecated. */
  readonly warning?: string
  /** For a request of the proxy: where the credential goes, how it is put in, the key to be proved with it, and whether it still may be used: what it has opened may stay open for long. */
  readonly injection?: AllowedInjection & { readonly proofKey?: ProofKey; stands(): boolean }
}

export interface ExchangeDependencies {
  readonly snapshot: CurrentSnapshot
  readonly attest: (evidence: CallerEvidence, snapshot: Snapshot) => Promise<AttestedWorkload>
  readonly subjects: {
    verify(request: {
      token: Secret
      tokenType: string
      server: AttestedWorkload['server']
      actorToken?: Secret
      actorTokenType?: string
    }): Promise<VerifiedSubject>
    fromSession(request: { uid: number; server: AttestedWorkload['server'] }): Promise<VerifiedSubject>
  }
  readonly policy: () => Policy
  readonly obtain: ReturnType<typeof createObtain>
  readonly hold: Holders['hold']
  readonly rates: Rates
  readonly checkProof: CheckProof
  readonly exec: Pick<ExecSessions, 'isLive' | 'leased'>
  readonly standing: Standing
  readonly membership: Pick<Membership, 'assertHeld' | 'catchUp'>
  readonly audit: AuditLog
  readonly telemetry: Telemetry
  readonly clock: Clock
}

/** How many versions of a secret may replace each other while one is handed out. */
const VERSIONS = 3

/** What Deputy logs in with for a program that is connected through it, and what the connection relies on. */
export interface OpenedConnection {
  readonly token: Secret
  /** Of the credential (ms since the epoch). */
  readonly expiresAt: number
  /** When what the connection relies on ends by itself: the user's session. */
  readonly notAfter: number
  readonly downstream: Downstream
  readonly reliance: Reliance
  /** Who is written down as having the credential, until the login is done. */
  readonly holder: HoldingProcess & { readonly process: string }
  /** The lease that the connection lives on. */
  readonly lease?: string
}

/** Under which name a session has secrets that rotate. */
export const holderOf = ({ id }: Pick<ExecSession, 'id'>): string => `exec ${id}`

/** Token exchange for a user, client credentials for a workload itself, and connections for either. All are the same straight line. */
export interface Exchange {
  exchange(origin: RequestOrigin, request: TokenExchangeRequest): Promise<IssuedToken>
  clientCredentials(origin: RequestOrigin, request: TokenWish): Promise<IssuedToken>
  /**
   * The credential for a connection through one of Deputy's own sockets, which the caller never sees: for the user of its exec
   * session, or of the Unix user's login session where the server may act on it, else for the server itself.
   */
  connection(origin: RequestOrigin, downstream: string): Promise<OpenedConnection>
}

/** How a request is refused whose user has no grant, or none that is good. */
const GRANT_GONE: readonly string[] = ['interaction_required', 'reconnect_required']

/**
 * The straight line of DESIGN: workload attested, subject verified, policy decides, credential obtained, record
 * durable, answer. Each step either adds to the account or refuses; a refusal is recorded like an issue, and when
 * the record cannot be written that is what the caller is told.
 */
export const createExchange = (deps: ExchangeDependencies): Exchange => {
  const { snapshot, clock, telemetry } = deps

  /** Runs the steps, makes the outcome durable, and only then lets it go. */
  const accountFor = async <Issued>(account: Account, steps: () => Promise<Issued>): Promise<Issued> => {
    let issued: Issued
    // A node without a lease knows that at once. Its refusal is not recorded: the store is away in nearly all such cases, and would be waited for.
    deps.membership.assertHeld()
    try {
      issued = await steps()
      await telemetry.span('deputy.audit', {}, () => deps.audit.append(toRecord(account, clock.now())))
      assertAccountValid(account)
    } catch (thrown) {
      const error = asDeputyError(thrown)
      telemetry.exchange({
        outcome: 'refused',
        error: error.code,
        ...metricLabels(account),
        seconds: (clock.now() - account.startedAt) / 1000,
      })
      if (error.code !== 'audit_unavailable' && !deps.rates.isRepeated(error))
        await deps.audit.append(toRecord(account, clock.now(), error))
      throw error
    }
    telemetry.exchange({
      outcome: 'issued',
      ...metricLabels(account),
      seconds: (clock.now() - account.startedAt) / 1000,
    })
    return issued
  }

  const attest = (account: Account): Promise<AttestedWorkload> =>
    telemetry.span('deputy.attest', {}, async () => {
      account.workload = await deps.attest(account.origin.evidence, snapshot())
      await deps.rates.admit('server', [account.workload.server.server])
      const proof = account.wish?.proof
      if (proof !== undefined) account.proved = await deps.checkProof(proof)
      return account.workload
    })

  const verifySubject = (account: Account, request: TokenExchangeRequest): Promise<VerifiedSubject> =>
    telemetry.span('deputy.verify_subject', {}, async () => {
      const { server } = account.workload!
      const subject =
        request.subjectTokenType === LOGIN_SESSION_TOKEN_TYPE
          ? await fromLoginSession(account, request)
          : await deps.subjects.verify({
              token: request.subjectToken,
              tokenType: request.subjectTokenType,
              server,
              ...(request.actorToken === undefined ? {} : { actorToken: request.actorToken }),
              ...(request.actorTokenType === undefined ? {} : { actorTokenType: request.actorTokenType }),
            })
      account.subject = subject
      await deps.rates.admit('tenant', [subject.tenant.tenant])
      await deps.rates.admit('user', [subject.tenant.tenant, subject.user])
      assertUserServed(subject, server, deps)
      return subject
    })

  /** A login session stands for the Unix user whom the kernel names, never for one whom the request names. */
  const fromLoginSession = async (account: Account, request: TokenExchangeRequest): Promise<VerifiedSubject> => {
    const { server, session } = account.workload!
    // Over TCP the kernel says nothing; of an exec session it has said it when that began.
    const uid = account.origin.evidence.peer?.uid ?? session?.uid
    if (request.subjectToken.reveal() !== LOGIN_SESSION_TOKEN)
      throw refuse('subject_token_invalid', {
        problem: `for a login session subject_token is the word ${LOGIN_SESSION_TOKEN}`,
      })
    if (request.actorToken !== undefined)
      throw refuse('actor_token_invalid', { problem: 'a login session takes none', server: server.server })
    if (uid === undefined) throw refuse('subject_token_invalid', { problem: 'a login session needs the Unix socket' })
    const subject = await deps.subjects.fromSession({ uid, server })
    // A started server goes on acting for whom it was started.
    if (session !== undefined && (session.user !== subject.user || session.tenant !== subject.tenant.tenant))
      throw refuse('exec_session_over', {
        server: server.server,
        problem:
          session.user === undefined ? 'it acts for the server alone' : 'the Unix user has signed in as somebody else',
      })
    return subject
  }

  const decide = async (
    account: Account,
    wish: TokenWish,
    tenant: string,
    uses: AttestedWorkload['server']['downstreams'],
  ): Promise<readonly string[]> => {
    const { server } = account.workload!
    const current = snapshot()
    assertToolScopes(server, wish.tool, account.subject)
    const target = (account.target = resolveTarget(wish, server, uses, tenant, current))
    account.injection = target.downstreams.map((downstream) =>
      allowInjection(downstream, wish.injection, isBound(downstream, current)),
    )[0]
    const ids = idsOf(target)
    const socketOnly = target.downstreams.find(isForSocketAlone)
    if (account.event !== 'connection.open' && socketOnly !== undefined)
      throw refuse('database_only', { downstream: socketOnly.downstream })
    assertNotRevoked(relianceOf(account), deps)
    for (const downstream of ids) await deps.rates.admit('downstream', [tenant, downstream])
    const decision = (account.decision = authorize(deps.policy(), {
      server,
      tenant,
      target,
      subject: account.subject,
      wish,
      snapshot: current,
      now: clock.now(),
    }))
    telemetry.decision({ allowed: decision.allowed, credential: target.kind })
    if (!decision.allowed)
      throw refuse('policy_denied', { server: server.server, downstream: decision.denied.join(' and ') })
    return decision.scopes
  }

  /** A version of a secret that rotates is handed out once it is written down who has it; if it was replaced meanwhile, the next one. */
  const obtainToHold = async (
    request: CredentialRequest,
    generation: number,
    { workload, holder }: Account,
  ): Promise<Obtained> => {
    const { peer, session } = workload!
    const who = {
      server: request.server.server,
      user: request.principal.kind === 'user' ? request.principal.user : null,
      process:
        holder ??
        (session !== undefined
          ? holderOf(session)
          : peer?.startedAt === undefined
            ? undefined
            : `${peer.pid} ${peer.startedAt}`),
    }
    for (let attempt = 1; attempt <= VERSIONS; attempt += 1) {
      const obtained = await deps.obtain(request, generation)
      const { held, expiresAt } = obtained.credential
      if (held === undefined || (await deps.hold(held, who, expiresAt))) return obtained
    }
    throw refuse('rotation_in_progress', {
      tenant: request.principal.tenant,
      secret: request.downstream.downstream,
      seconds: 1,
    })
  }

  /** A grant that is gone may be revoked by what this node is only about to hear of: then that is the reason. */
  const revokedRather = async (account: Account, thrown: unknown): Promise<never> => {
    if (thrown instanceof DeputyError && GRANT_GONE.includes(thrown.code)) {
      await deps.membership.catchUp()
      assertNotRevoked(relianceOf(account), deps)
    }
    throw thrown
  }

  const obtain = async (
    account: Account,
    principal: Principal,
    scopes: readonly string[],
    notAfter: number,
    subjectToken?: CredentialRequest['subjectToken'],
  ): Promise<Credential> => {
    const { subject, target, workload, origin } = account
    const current = snapshot()
    const tenant = current.tenants.get(principal.tenant)
    if (tenant === undefined) throw refuse('subject_tenant_unknown')
    const { kind, downstreams, audiences } = target!
    const [downstream, ...others] = downstreams
    const confirmation = confirmationFor(target!, workload!.server, account.proved)
    const { requestedTokenType, tool, rejected } = account.wish ?? {}
    const request = {
      principal,
      tenant,
      server: workload!.server,
      downstream,
      ...(others.length === 0 ? {} : { others }),
      scopes,
      notAfter,
      audiences,
      priorActors: subject?.actors ?? [],
      ancestors: subject === undefined ? [] : [subject.tokenId, ...subject.ancestors],
      correlationId: origin.correlationId,
      ...(confirmation === undefined ? {} : { confirmation }),
      ...(requestedTokenType === undefined ? {} : { requestedTokenType }),
      ...(tool === undefined ? {} : { tool }),
      ...(rejected === undefined ? {} : { rejected: { token: rejected } }),
      // Only kinds that are made out of the user's token receive it (threat 18).
      ...(subjectToken === undefined || !kinds[kind].fromSubjectToken ? {} : { subjectToken }),
    }
    const { credential, cached, obtainedAt } = await telemetry.span(
      'deputy.obtain',
      { 'deputy.downstream': idsOf(target!).join(' ') },
      () => obtainToHold(request, current.generation, account).catch((error: unknown) => revokedRather(account, error)),
    )
    account.credential = credential
    account.cached = cached
    account.obtainedAt = obtainedAt
    if (kinds[kind].leased === true && credential.grant !== undefined)
      deps.exec.leased(credential.grant, workload!.session)
    telemetry.cache({ outcome: cached ? 'hit' : 'miss' })
    return credential
  }

  const relianceOf = ({ subject, tenant, workload, target, credential, startedAt, obtainedAt }: Account): Reliance => ({
    tenant: subject?.tenant.tenant ?? tenant!,
    user: subject?.user,
    server: workload!.server.server,
    downstreams: target === undefined ? [] : idsOf(target),
    grant: credential?.grant,
    // Kinds whose credentials come from a provider serve one downstream.
    provider: target === undefined ? undefined : providerOf(target.downstreams[0]),
    tokens: [
      ...(credential?.tokenId === undefined ? [] : [credential.tokenId]),
      ...(subject === undefined ? [] : [subject.tokenId, ...subject.ancestors]),
    ],
    since: Math.min(subject?.earliestIssue ?? startedAt, obtainedAt ?? Infinity),
  })

  /** The record may have waited for the disk, and a provider before that. */
  const assertAccountValid = (account: Account): void => {
    const { target, workload, wish, injection, generation } = account
    assertStillValid(relianceOf(account), deps, generation)
    const { session, server } = workload!
    if (session !== undefined && !deps.exec.isLive(session))
      throw refuse('exec_session_over', { server: server.server, problem: 'it ended meanwhile' })
    const current = snapshot()
    if (current.generation === generation) return
    for (const now of idsOf(target!).flatMap((id) => current.downstreams.get(id) ?? []))
      allowInjection(
        now,
        wish?.injection === undefined ? undefined : { ...wish.injection, origin: injection!.origin },
        isBound(now, current),
      )
  }

  const stands = (account: Account): boolean => {
    try {
      assertAccountValid(account)
      return true
    } catch {
      return false
    }
  }

  const metricLabels = ({ target, subject, tenant: own }: Account) => {
    const tenant = subject?.tenant.tenant ?? own
    return {
      ...(target === undefined ? {} : { credential: target.kind }),
      ...(tenant === undefined ? {} : { tenant }),
    }
  }

  const answer = (account: Account, credential: Credential, notAfter: number): IssuedToken => {
    const warning = account.workload!.warning
    return {
      token: credential.token,
      issuedTokenType: account.wish?.requestedTokenType ?? credential.issuedTokenType,
      tokenType: credential.tokenType,
      scopes: credential.scopes,
      expiresIn: Math.max(0, toSeconds(Math.min(credential.expiresAt, notAfter) - clock.now())),
      ...(credential.fields === undefined ? {} : { fields: credential.fields }),
      ...(warning === undefined ? {} : { warning }),
      ...(account.injection === undefined
        ? {}
        : {
            injection: {
              ...account.injection,
              ...(credential.proofKey === undefined ? {} : { proofKey: credential.proofKey }),
              stands: () => stands(account),
            },
          }),
    }
  }

  const begin = (origin: RequestOrigin, event: Account['event'], wish: TokenWish): Account => ({
    origin,
    event,
    startedAt: clock.now(),
    generation: snapshot().generation,
    wish,
  })

  const forUser = async (
    account: Account,
    request: TokenExchangeRequest,
  ): Promise<{ credential: Credential; notAfter: number }> => {
    const subject = await verifySubject(account, request)
    const scopes = await decide(account, request, subject.tenant.tenant, account.workload!.server.downstreams)
    const token =
      subject.how === 'login_session'
        ? undefined
        : { token: request.subjectToken, type: request.subjectTokenType, issuer: subject.issuer }
    return {
      notAfter: subject.expiresAt,
      credential: await obtain(
        account,
        { kind: 'user', tenant: subject.tenant.tenant, user: subject.user },
        scopes,
        subject.expiresAt,
        token,
      ),
    }
  }

  const forServer = async (
    account: Account,
    request: TokenWish,
  ): Promise<{ credential: Credential; notAfter: number }> => {
    const { server } = account.workload!
    account.tenant = ownTenant(server, snapshot())
    await deps.rates.admit('tenant', [account.tenant])
    assertThawed(account.tenant, deps)
    const scopes = await decide(account, request, account.tenant, server.own)
    return {
      notAfter: Infinity,
      credential: await obtain(
        account,
        { kind: 'workload', tenant: account.tenant, server: server.server },
        scopes,
        Infinity,
      ),
    }
  }

  return {
    exchange(origin, request) {
      const account = begin(origin, 'token.exchange', request)
      return accountFor(account, async () => {
        await attest(account)
        const { credential, notAfter } = await forUser(account, request)
        return answer(account, credential, notAfter)
      })
    },

    clientCredentials(origin, request) {
      const account = begin(origin, 'token.client_credentials', request)
      return accountFor(account, async () => {
        await attest(account)
        const { credential, notAfter } = await forServer(account, request)
        return answer(account, credential, notAfter)
      })
    },

    connection(origin, downstream) {
      const wish = { audiences: [downstream], resources: [] }
      const account: Account = {
        ...begin(origin, 'connection.open', wish),
        holder: `connection ${origin.correlationId}`,
      }
      return accountFor(account, async () => {
        const { server, session } = await attest(account)
        const isOwn = Object.hasOwn(server.own, downstream) && !Object.hasOwn(server.downstreams, downstream)
        const isForUser = session === undefined ? server.login_session && !isOwn : session.user !== undefined
        const { credential, notAfter } = isForUser
          ? await forUser(account, {
              ...wish,
              subjectToken: new Secret(LOGIN_SESSION_TOKEN),
              subjectTokenType: LOGIN_SESSION_TOKEN_TYPE,
            })
          : await forServer(account, wish)
        return {
          token: credential.token,
          expiresAt: credential.expiresAt,
          notAfter,
          downstream: account.target!.downstreams[0],
          reliance: relianceOf(account),
          holder: { server: server.server, user: account.subject?.user ?? null, process: account.holder! },
          ...(account.target!.kind === 'dynamic' && credential.grant !== undefined ? { lease: credential.grant } : {}),
        }
      })
    },
  }
}

const isBound = (downstream: Downstream, { providers }: Snapshot): boolean =>
  wantsBound(downstream, providers.get(providerOf(downstream) ?? ''))

/** Whether a login never crosses the local API (promise 5). */
const isForSocketAlone = (downstream: Downstream): boolean =>
  ('postgres' in downstream && downstream.postgres?.only === true) ||
  ('redis' in downstream && downstream.redis?.only === true)

/** The tenant in which a server acts for itself: the only one that it is registered for. */
export const ownTenant = ({ server, tenants }: AttestedWorkload['server'], snapshot: Snapshot): string => {
  const [tenant, ...others] = tenants === '*' ? snapshot.tenants.keys() : tenants
  if (tenant === undefined || others.length > 0 || snapshot.tenants.get(tenant)?.enabled !== true)
    throw refuse('workload_own_tenant', { server })
  return tenant
}
