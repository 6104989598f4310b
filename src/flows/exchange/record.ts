import type { DeputyError, ErrorFacts } from '#errors'
import { type AuditRecord, namesDownstreams } from '#foundation/audit'
import type { ExchangeContext, Noted } from './context.ts'
import { idsOf } from './target.ts'

/** Only the user needs the connect URL; readers of the audit log do not. */
const recordable = ({ connect_url: _, ...facts }: ErrorFacts): ErrorFacts => facts

/** A request and what was noted of it, as an audit record. Only facts that are no secret are in it; the correlation id ties it to logs and traces. */
export const toRecord = (context: ExchangeContext, noted: Noted, now: number, error?: DeputyError): AuditRecord => {
  const { origin, wish, event, startedAt } = context
  const { workload, subject, target, decision, credential } = noted
  const { peer, clientId } = origin.evidence
  const tenant = subject?.tenant.tenant ?? noted.tenant
  return {
    id: origin.correlationId,
    event,
    outcome: error === undefined ? 'issued' : 'refused',
    ...(tenant === undefined ? {} : { tenant }),
    ...(subject?.user === undefined ? {} : { user: subject.user }),
    ...(workload === undefined ? {} : { server: workload.server.server }),
    ...(target === undefined ? {} : { downstream: namesDownstreams(idsOf(target)) }),
    detail: {
      attestation: {
        ...(workload === undefined
          ? { claimed: clientId ?? null }
          : { method: workload.method, session: workload.session?.id, warning: workload.warning }),
        ...(peer === undefined ? {} : { uid: peer.uid, gid: peer.gid, pid: peer.pid, exe: peer.exe }),
      },
      subject:
        subject === undefined
          ? undefined
          : { issuer: subject.issuer, how: subject.how, token: subject.tokenId, agent: subject.agent?.id },
      asked: {
        scopes: wish.scopes,
        audience: wish.audiences,
        resource: wish.resources,
        tool: wish.tool,
        call: wish.call,
        rejected: wish.rejected === undefined ? undefined : true,
      },
      // Never the path or the query: the caller chooses them, and placeholders stand in them.
      injected:
        wish.injection === undefined
          ? undefined
          : { host: noted.injection?.origin ?? wish.injection.origin, method: wish.injection.methods[0] },
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
              over_scoped: credential.overScoped || undefined,
              cached: noted.cached || undefined,
              bound: credential.tokenType === 'DPoP' ? (credential.proofKey ?? noted.proved)?.jkt : undefined,
              token_id: credential.tokenId,
              grant: credential.grant,
              status: credential.status,
              ancestors:
                credential.status === undefined || subject === undefined || subject.ancestors.length === 0
                  ? undefined
                  : subject.ancestors,
            },
      story: credential?.auditNote,
      error:
        error === undefined
          ? undefined
          : { code: error.code, message: error.message, next: error.next, facts: recordable(error.facts) },
      milliseconds: now - startedAt,
      traceparent: origin.traceparent,
    },
  }
}
