import type { AuditLog } from '#foundation/audit'
import type { Secret } from '#foundation/crypto'
import type { Store } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import type { RevocationIndex } from '#identity/validity'
import type { IdentityTokens } from './identity-tokens.ts'

export interface LoginSessionDependencies {
  readonly audit: AuditLog
  readonly store: Pick<Store, 'sessions'>
  readonly identityTokens: Pick<IdentityTokens, 'keep'>
  readonly revocationIndex: RevocationIndex
  readonly logger: Logger
}

/** How long a Unix user acts for the user who has signed in (ms). */
const SESSION_LIFETIME_MS = 12 * 3_600_000

/** A user who has signed in, and when (ms since the epoch). */
interface Who {
  readonly user: string
  readonly display?: string | undefined
  readonly issuer: string
  readonly groups: readonly string[]
  readonly claims: Readonly<Record<string, unknown>>
  readonly idToken: Secret | undefined
  readonly signedInAt: number
}

/**
 * Records that a Unix user acts for a user from now on, and lets it.
 * @param detail more members of the record
 * @returns until when (ms since the epoch)
 */
export const beginLoginSession = async (
  deps: LoginSessionDependencies,
  { tenant, uid, correlationId: id }: { readonly tenant: string; readonly uid: number; readonly correlationId: string },
  { user, display, issuer, groups, claims, idToken, signedInAt }: Who,
  detail: Readonly<Record<string, unknown>> = {},
): Promise<number> => {
  await deps.audit.append({
    id,
    event: 'login',
    outcome: 'done',
    tenant,
    user,
    detail: { uid, issuer, ...(display === undefined ? {} : { display }), ...detail },
  })
  const expiresAt = signedInAt + SESSION_LIFETIME_MS
  await deps.store.sessions.put({
    uid,
    tenant,
    user,
    issuer,
    groups: [...groups],
    claims: { ...claims },
    signedInAt,
    expiresAt,
  })
  await deps.identityTokens.keep({ tenant, user, issuer }, idToken)
  return expiresAt
}
