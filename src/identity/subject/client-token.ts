import { type Snapshot, userIssuerOf } from '#config'
import { refuse } from '#errors'
import { type ClientSignIn, isClientAllowed } from '#identity/client'
import { actorsOf, confirmationOf, invalid } from './checks.ts'
import { omittedOf, scopesOf, type SubjectClaims } from './claims.ts'
import type { MintedClaims } from './minted-token.ts'
import { isSignInTrusted } from './standing-sign-in.ts'
import type { VerifiedSubject } from './subject.ts'

/**
 * The user of a token that Deputy has issued to an MCP client. The token names its sign-in (`sid`), and the sign-in says who the
 * user is: groups and claims are those of the identity provider, which the tenant has to trust still.
 * @param signIn undefined: it has ended
 * @throws DeputyError `subject_token_invalid`, `subject_tenant_unknown`, `subject_client_disabled`
 */
export const subjectOfClientToken = (
  claims: MintedClaims,
  signIn: ClientSignIn | undefined,
  snapshot: Snapshot,
): VerifiedSubject => {
  if (signIn === undefined) throw invalid('its sign-in has ended')
  const { tenant, user, client, issuer } = signIn
  if (tenant !== claims.tenant || user !== claims.sub || client !== claims.client_id)
    throw invalid('its sign-in is not that of its user and client')
  const served = snapshot.tenants.get(tenant)
  const trusted = served === undefined ? undefined : userIssuerOf(served, issuer, snapshot.providers)
  if (served?.enabled !== true || trusted === undefined || !isSignInTrusted(signIn, snapshot))
    throw refuse('subject_tenant_unknown')
  if (!isClientAllowed(client, signIn, snapshot)) throw refuse('subject_client_disabled', { client })
  const omitted = omittedOf(signIn.claims as SubjectClaims, trusted)
  const { acr } = signIn.claims
  return {
    tenant: served,
    user,
    client,
    issuer: claims.iss,
    groups: signIn.groups,
    ...(omitted === undefined ? {} : { omitted }),
    claims: { ...signIn.claims, client_id: client, jti: claims.jti, sid: signIn.id, idp: issuer },
    scopes: scopesOf({ scope: claims.scope }),
    how: 'jwt',
    ...(typeof acr === 'string' ? { acr } : {}),
    issuedAt: claims.iat * 1000,
    // A revocation after the sign-in covers the token, however often it was refreshed since.
    earliestIssue: signIn.signedInAt,
    expiresAt: claims.exp * 1000,
    tokenId: claims.jti,
    ancestors: claims.anc,
    actors: actorsOf(claims as unknown as SubjectClaims),
    ...confirmationOf(claims),
  }
}
