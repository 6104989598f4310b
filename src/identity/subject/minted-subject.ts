import { refuse } from '#errors'
import { assertAudience, assertPossession, invalid } from './checks.ts'
import { subjectOfAgentToken } from './agent-token.ts'
import { subjectOfClientToken } from './client-token.ts'
import { scopesOf } from './claims.ts'
import type { SubjectDependencies, SubjectRequest } from './dependencies.ts'
import { factsOfMinted } from './minted-facts.ts'
import type { VerifiedSubject } from './subject.ts'

/** A token that Deputy minted for this server: of a client's sign-in, of an agent, or the next link of a delegation chain (RFC 8693 section 4.1). */
export const fromMinted = async (
  deps: Pick<SubjectDependencies, 'readMintedToken' | 'clientSessions' | 'snapshot'>,
  { token, server }: SubjectRequest,
): Promise<VerifiedSubject> => {
  const claims = deps.readMintedToken(token)
  if (claims === undefined) throw invalid('it is not, or no longer, a token of this Deputy')
  assertAudience(claims, server)
  assertPossession(claims, server)
  if (claims.sid !== undefined)
    return subjectOfClientToken(claims, await deps.clientSessions.find(claims.sid), deps.snapshot())
  if (claims.agent === true) return subjectOfAgentToken(claims, server, deps.snapshot())
  const tenant = deps.snapshot().tenants.get(claims.tenant)
  if (tenant?.enabled !== true) throw refuse('subject_tenant_unknown')
  if (claims.act === undefined) throw invalid('it was issued to a server for itself, not for a user')
  return {
    // A minted token names only the user: groups and other claims come from the issuer, and go to no service.
    ...factsOfMinted(claims),
    tenant,
    user: claims.sub,
    groups: [],
    claims: claims.authorization_details === undefined ? {} : { authorization_details: claims.authorization_details },
    scopes: scopesOf({ scope: claims.scope }),
  }
}
