import type { Snapshot } from '#config'
import { refuse } from '#errors'
import { type ClientSignIn, isClientAllowed } from '#identity/client'
import { invalid } from './checks.ts'
import { omittedOf, scopesOf, type SubjectClaims } from './claims.ts'
import { factsOfMinted } from './minted-facts.ts'
import type { MintedClaims } from './minted-token.ts'
import { trustOfSignIn } from './standing-sign-in.ts'
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
  const trusted = trustOfSignIn(signIn, snapshot)
  if (trusted === undefined) throw refuse('subject_tenant_unknown')
  if (!isClientAllowed(client, signIn, snapshot)) throw refuse('subject_client_disabled', { client })
  const omitted = omittedOf(signIn.claims as SubjectClaims, trusted.issuer)
  const { acr } = signIn.claims
  return {
    ...factsOfMinted(claims),
    tenant: trusted.tenant,
    user,
    client,
    groups: signIn.groups,
    ...(omitted === undefined ? {} : { omitted }),
    claims: { ...signIn.claims, client_id: client, jti: claims.jti, sid: signIn.id, idp: issuer },
    scopes: scopesOf({ scope: claims.scope }),
    ...(typeof acr === 'string' ? { acr } : {}),
    // A revocation after the sign-in covers the token, however often it was refreshed since.
    earliestIssue: signIn.signedInAt,
  }
}
