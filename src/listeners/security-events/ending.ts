import type { Clock } from '#clock'
import type { Revoker } from '#flows/revocation'
import type { AuditLog } from '#foundation/audit'

/** What a security event ends: a user, or a session, whose user may be unknown. */
export type Ended =
  | { readonly user: string; readonly session: undefined }
  | { readonly user: string | undefined; readonly session: string }

/** Ends what an identity provider has reported as ended, as an admin would, and records the report. */
export const createEnding =
  (deps: { readonly revoker: Pick<Revoker, 'revoke'>; readonly audit: AuditLog; readonly clock: Clock }) =>
  /** @param signal.facts of it, for the record */
  async (
    { user, session }: Ended,
    signal: {
      readonly tenant: string
      readonly by: string
      readonly reason: string
      readonly correlationId: string
      /** How long the end of a session is remembered (ms): no token of it counts for longer. */
      readonly sessionLifetime: number
      readonly facts: { readonly type: string; readonly transmitter: string; readonly event: string }
    },
  ): Promise<void> => {
    const { tenant, by, reason, correlationId, sessionLifetime, facts } = signal
    await deps.revoker.revoke({
      scope: session === undefined ? { kind: 'user', tenant, user } : { kind: 'token', token: session },
      by,
      reason,
      correlationId,
      ...(session === undefined ? {} : { tokenExpiresAt: deps.clock.now() + sessionLifetime }),
    })
    await deps.audit.append({
      id: correlationId,
      event: 'signal.received',
      outcome: 'done',
      tenant,
      ...(user === undefined ? {} : { user }),
      detail: { ...facts, ended: session === undefined ? 'user' : 'session' },
    })
  }
