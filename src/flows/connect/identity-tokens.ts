import { decodeJwt } from 'jose'
import type { Clock } from '#clock'
import { type CurrentSnapshot, servesTenant } from '#config'
import { refuse } from '#errors'
import type { Envelope, Fingerprint, Secret } from '#foundation/crypto'
import type { IdentityTokenStore, Revocation } from '#foundation/store'
import { earliestIssueOf, endOf, identify, sessionsIn } from '#identity/subject'
import type { RevocationIndex } from '#identity/validity'

/** Whose sign-in an ID token is of, and by whose word. */
export interface IdentityTokenOwner {
  readonly tenant: string
  readonly user: string
  readonly issuer: string
}

/**
 * The ID tokens of users' sign-ins, for `id_jag`: each sealed under its tenant's key, one a user, until it ends. What was issued
 * before a revocation is not used, whether or not it has been removed by then.
 */
export const createIdentityTokens = (deps: {
  readonly snapshot: CurrentSnapshot
  readonly store: IdentityTokenStore
  readonly envelope: Envelope
  readonly revocationIndex: RevocationIndex
  readonly fingerprint: Fingerprint
  readonly clock: Clock
}) => {
  const nameOf = (tenant: string, user: string) => ({ tenant, kind: 'identity-token', id: user })
  const isWanted = (tenant: string): boolean =>
    [...deps.snapshot().downstreams.values()].some(
      ({ credential, enabled, tenants }) => credential === 'id_jag' && enabled && servesTenant(tenants, tenant),
    )
  const revocationOf = ({ tenant, user, issuer }: IdentityTokenOwner, idToken: Secret): Revocation | undefined => {
    const claims = decodeJwt(idToken.reveal())
    const { iat, jti } = claims
    return deps.revocationIndex.findRevocation({
      tenant,
      user,
      server: '',
      downstreams: [],
      tokens: [
        identify({ issuer, jti, token: idToken }, deps.fingerprint),
        ...sessionsIn({ tenant, issuer }, claims, deps.fingerprint),
      ],
      since: earliestIssueOf(iat),
    })
  }
  return {
    /** Keeps a verified one, where the provider issues any, if a downstream of the tenant has a use for it. @throws DeputyError `revoked` */
    async keep(owner: IdentityTokenOwner, idToken: Secret | undefined): Promise<void> {
      if (idToken === undefined) return
      const claims = decodeJwt(idToken.reveal())
      const { exp, iat } = claims
      if (!isWanted(owner.tenant) || exp === undefined) return
      const revoked = revocationOf(owner, idToken)
      if (revoked !== undefined)
        throw refuse('revoked', { scope: 'this sign-in', revoked_at: new Date(revoked.epoch).toISOString() })
      const { tenant, user, issuer } = owner
      const trusted = deps
        .snapshot()
        .tenants.get(tenant)
        ?.issuers.find((each) => each.issuer === issuer)
      if (trusted === undefined) return
      const sessions = sessionsIn(owner, claims, deps.fingerprint)
      await deps.store.put({
        tenant,
        user,
        issuer,
        sealed: await deps.envelope.seal(nameOf(tenant, user), idToken),
        expiresAt: endOf({ exp, iat }, sessions, trusted.session_lifetime),
      })
    },
    /** The one that still counts. */
    async find(owner: IdentityTokenOwner): Promise<Secret | undefined> {
      const { tenant, user, issuer } = owner
      const kept = await deps.store.find({ tenant, user }, deps.clock.now())
      if (kept?.issuer !== issuer) return undefined
      const idToken = await deps.envelope.open(nameOf(tenant, user), kept.sealed)
      return revocationOf(owner, idToken) === undefined ? idToken : undefined
    },
  }
}
export type IdentityTokens = ReturnType<typeof createIdentityTokens>
