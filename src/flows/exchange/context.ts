import type { Clock } from '#clock'
import type { CurrentSnapshot, Server, Snapshot } from '#config'
import { type Credential, type CredentialRequest, type Principal, providerOf } from '#credentials/connector'
import type { Checkouts } from '#flows/rotation'
import type { AuditLog } from '#foundation/audit'
import type { Rates } from '#foundation/cache'
import type { Membership } from '#foundation/cluster'
import type { Secret } from '#foundation/crypto'
import type { Telemetry } from '#foundation/telemetry'
import type { Policy, PolicyDecision } from '#identity/policy'
import type { VerifiedSubject } from '#identity/subject'
import type { CredentialDependencies, RevocationIndex } from '#identity/validity'
import type { AttestedWorkload, CallerEvidence, CheckProof, ExecSessions } from '#identity/workload'
import type { AllowedInjection } from './injection.ts'
import type { Memo } from './memo.ts'
import type { Obtain, Obtained } from './obtain.ts'
import type { RequestOrigin, TokenRequest } from './request.ts'
import { idsOf, type Target } from './target.ts'

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
  readonly obtain: Obtain
  readonly checkOut: Checkouts['checkOut']
  readonly rates: Rates
  readonly checkProof: CheckProof
  readonly exec: Pick<ExecSessions, 'isLive' | 'leased'>
  readonly revocationIndex: RevocationIndex
  readonly membership: Pick<Membership, 'assertHeld' | 'catchUp'>
  readonly audit: AuditLog
  readonly telemetry: Telemetry
  readonly clock: Clock
  /** What was proved of requests that come again; undefined: each is proved anew. */
  readonly memo?: Memo | undefined
}

/** A request as it came, with the moment and the configuration at which it began. */
export interface ExchangeContext {
  readonly origin: RequestOrigin
  readonly event: 'token.exchange' | 'token.client_credentials' | 'connection.open'
  readonly startedAt: number
  /** Of the configuration with which the request began. */
  readonly generation: number
  readonly wish: TokenRequest
  /** The name under which the credential is held, where that is not the calling process. */
  readonly holder?: string
}

/** Proved by `authenticate`: which server calls, and which key it has. */
export interface Caller {
  readonly workload: AttestedWorkload
  readonly proved?: { readonly jkt: string }
}

/** Proved by `verifySubject`: for whom the server acts, which is a user, an agent, or itself. */
export interface Beneficiary {
  readonly principal: Principal
  /** Of a user or an agent. */
  readonly subject?: VerifiedSubject
  /** Nothing issued may live longer than this (ms since the epoch). */
  readonly notAfter: number
  /** For kinds of credentials that are made out of it. */
  readonly subjectToken?: NonNullable<CredentialRequest['subjectToken']>
  /** The registration of the server: for what it may ask at each downstream. */
  readonly uses: Server['downstreams']
}

/** Proved by `authorizeRequest`: for what, with which scopes. */
export interface Authorized {
  readonly target: Target
  readonly scopes: readonly string[]
  /** Where the proxy takes what is issued; undefined: to the caller. */
  readonly injection: AllowedInjection | undefined
}

/** All that a request has proved. */
export interface Proved {
  readonly context: ExchangeContext
  readonly caller: Caller
  readonly beneficiary: Beneficiary
  readonly authorized: Authorized
  readonly obtained: Obtained
}

/**
 * What the audit record says of a request. Each step notes what it finds when it finds it, so that the record of a refused
 * request says as much as that of an issued one. No step reads it.
 */
export interface Noted {
  workload?: AttestedWorkload
  proved?: { readonly jkt: string }
  subject?: VerifiedSubject
  /** The tenant of a server that asks for itself. */
  tenant?: string
  target?: Target
  injection?: AllowedInjection | undefined
  decision?: PolicyDecision
  credential?: Credential
  cached?: boolean
}
export type Note = (found: Noted) => void

/** What an outcome relies on; a revocation of any of it voids the outcome. Stages that are not there yet are left out. */
export const dependenciesOf = ({
  context,
  caller,
  beneficiary: { principal, subject },
  target,
  obtained,
}: Pick<Proved, 'context' | 'caller' | 'beneficiary'> & {
  readonly target?: Target
  readonly obtained?: Obtained
}): CredentialDependencies => {
  const tokenId = obtained?.credential.tokenId
  return {
    tenant: principal.tenant,
    user: principal.kind === 'user' ? principal.user : undefined,
    server: caller.workload.server.server,
    downstreams: target === undefined ? [] : idsOf(target),
    grant: obtained?.credential.grant,
    // Kinds whose credentials come from a provider serve one downstream.
    provider: target === undefined ? undefined : providerOf(target.downstreams[0]),
    tokens: [
      ...(tokenId === undefined ? [] : [tokenId]),
      ...(subject === undefined ? [] : [subject.tokenId, ...subject.ancestors]),
    ],
    since: Math.min(subject?.earliestIssue ?? context.startedAt, obtained?.obtainedAt ?? Infinity),
  }
}
