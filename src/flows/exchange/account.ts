import type { Credential } from '#credentials/connector'
import type { DeputyError, ErrorFacts } from '#errors'
import { type AuditRecord, namesDownstreams } from '#foundation/audit'
import type { PolicyDecision } from '#identity/policy'
import type { VerifiedSubject } from '#identity/subject'
import type { AttestedWorkload } from '#identity/workload'
import type { AllowedInjection } from './injection.ts'
import type { RequestOrigin, TokenWish } from './request.ts'
import { idsOf, type Target } from './target.ts'

/**
 * What is known of a request at each moment. Every step adds what it found, so that the audit record tells as much
 * of a refused request as of an issued one.
 */
export interface Account {
  readonly origin: RequestOrigin
  readonly event: 'token.exchange' | 'token.client_credentials' | 'connection.open'
  readonly startedAt: number
  /** Of the configuration with which the request began. */
  readonly generation: number
  wish?: TokenWish
  /** The name under which the credential is held, where that is not the calling process. */
  readonly holder?: string
  workload?: AttestedWorkload
  subject?: VerifiedSubject
  /** The tenant of a workload that asks for itself. */
  tenant?: string
  target?: Target
  /** Where the proxy takes what is issued; undefined: to whoever asked. */
  injection?: AllowedInjection | undefined
  decision?: PolicyDecision
  credential?: Credential
  /** The key that the request has proved to have. */
  proved?: { readonly jkt: string }
  cached?: boolean
  /** When the credential began to be obtained: older than the request if it was cached. */
  obtainedAt?: number
}

/** A connect URL is for the user alone: whoever reads the audit log has no use for it. */
const recordable = ({ connect_url: _, ...facts }: ErrorFacts): ErrorFacts => facts

/** The account as an audit record. Only facts that are no secret are in it; the correlation id ties it to logs and traces. */
export const toRecord = (account: Account, now: number, error?: DeputyError): AuditRecord => {
  const { origin, wish, workload, subject, target, decision, credential } = account
  const { peer, clientId } = origin.evidence
  const tenant = subject?.tenant.tenant ?? account.tenant
  return {
    id: origin.correlationId,
    event: account.event,
    outcome: error === undefined ? 'issued' : 'refused',
    ...(tenant === undefined ? {} : { tenant }),
    ...(subject === undefined ? {} : { user: subject.user }),
    ...(workload === undefined ? {} : { server: workload.server.server }),
    ...(target === undefined ? {} : { downstream: namesDownstreams(idsOf(target)) }),
    detail: {
      attestation: {
        ...(workload === undefined
          ? { claimed: clientId ?? null }
          : { method: workload.method, session: workload.session?.id, warning: workload.warning }),
        ...(peer === undefined ? {} : { uid: peer.uid, gid: peer.gid, pid: peer.pid, exe: peer.exe }),
      },
      subject: subject === undefined ? undefined : { issuer: subject.issuer, how: subject.how, token: subject.tokenId },
      asked:
        wish === undefined
          ? undefined
          : {
              scopes: wish.scopes,
              audience: wish.audiences,
              resource: wish.resources,
              tool: wish.tool,
              rejected: wish.rejected === undefined ? undefined : true,
            },
      // Never the path or the query: the caller chooses them, and placeholders stand in them.
      injected:
        wish?.injection === undefined
          ? undefined
          : { host: account.injection?.origin ?? wish.injection.origin, method: wish.injection.methods[0] },
      decision:
        decision === undefined
          ? undefined
          : {
              allowed: decision.allowed,
              policies: decision.policies,
              scopes: decision.scopes,
              errors: decision.errors.length === 0 ? undefined : decision.errors,
            },
      credential:
        credential === undefined || error !== undefined
          ? undefined
          : {
              kind: target?.kind,
              scopes: credential.scopes,
              expires_at: credential.expiresAt,
              wider: credential.wider || undefined,
              cached: account.cached || undefined,
              bound: credential.tokenType === 'DPoP' ? (credential.proofKey ?? account.proved)?.jkt : undefined,
              token_id: credential.tokenId,
              grant: credential.grant,
              status: credential.status,
              ancestors:
                credential.status === undefined || subject === undefined || subject.ancestors.length === 0
                  ? undefined
                  : subject.ancestors,
            },
      story: credential?.story,
      error:
        error === undefined
          ? undefined
          : { code: error.code, message: error.message, next: error.next, facts: recordable(error.facts) },
      milliseconds: now - account.startedAt,
      traceparent: origin.traceparent,
    },
  }
}
