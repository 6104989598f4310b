import { actorsOf, confirmationOf } from './checks.ts'
import type { SubjectClaims } from './claims.ts'
import type { MintedClaims } from './minted-token.ts'
import type { VerifiedSubject } from './subject.ts'

/**
 * What every token that Deputy has issued says by itself, whomever it is for. Deputy's own clock has written its times.
 */
export const factsOfMinted = (
  claims: MintedClaims,
): Pick<
  VerifiedSubject,
  'issuer' | 'how' | 'issuedAt' | 'earliestIssue' | 'expiresAt' | 'tokenId' | 'ancestors' | 'actors' | 'confirmation'
> => ({
  issuer: claims.iss,
  how: 'jwt',
  issuedAt: claims.iat * 1000,
  earliestIssue: claims.iat * 1000,
  expiresAt: claims.exp * 1000,
  tokenId: claims.jti,
  ancestors: claims.anc,
  actors: actorsOf(claims as unknown as SubjectClaims),
  ...confirmationOf(claims),
})
