import type { AuditRecord } from '#foundation/audit'
import type { RequestOrigin } from './request.ts'
import { withAudit, type WithAuditDependencies } from './with-audit.ts'

/** An introspection answer (RFC 7662 section 2.2). */
export type Introspection =
  | { readonly active: false; readonly error?: string; readonly dpop_nonce?: string }
  | ({ readonly active: true } & Readonly<Record<string, unknown>>)

export const INACTIVE: Introspection = { active: false }

/**
 * Lets an introspection answer go when its record is durable. Of a token that counted, it is asked again then whether it counts:
 * what was revoked meanwhile is revoked (promise 4).
 * @param told.assertHeld a node that may have missed a revocation cannot state that a token is active. @throws what it throws
 */
export const answerIntrospection = async (
  deps: WithAuditDependencies,
  origin: RequestOrigin,
  answer: Introspection,
  told: {
    readonly record: Omit<AuditRecord, 'id' | 'event' | 'outcome'>
    readonly counts: () => boolean
    readonly isRecorded?: boolean
    readonly assertHeld: () => void
  },
): Promise<Introspection> => {
  if (told.isRecorded === false) {
    if (answer.active) told.assertHeld()
    return answer.active && !told.counts() ? INACTIVE : answer
  }
  await withAudit(deps, {
    steps: () => Promise.resolve(),
    issued: () => ({ id: origin.correlationId, event: 'token.introspect', outcome: 'done', ...told.record }),
    refused: () => undefined,
    assertValid: () => {
      if (answer.active) told.assertHeld()
    },
  })
  return answer.active && !told.counts() ? INACTIVE : answer
}
