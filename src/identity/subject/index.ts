/** Which user a token is for. The exchange passes a token of an issuer, or of Deputy itself, and gets a verified subject or a refusal. */
export { confirmationOf, earliestIssueOf, endOf, LEEWAY } from './checks.ts'
export { createClaimWatch, type WatchClaims } from './claim-watch.ts'
export { displayNameOf, groupsOf, omittedOf, presentClaims, userOf } from './claims.ts'
export { createIntrospection } from './introspection.ts'
export { readIssuerJson } from './issuer-answer.ts'
export { createIssuerKeys, type IssuerKeys } from './issuer-keys.ts'
export { createIssuerMetadata } from './issuer-metadata.ts'
export { createMintedTokenReader, type MintedClaims, type ReadMintedToken } from './minted-token.ts'
export {
  agentAncestor,
  agentsAmong,
  clientAncestors,
  clientsAmong,
  clientSessionsAmong,
  identify,
  sessionIdOf,
  sessionsIn,
  tokenIdOf,
  type VerifiedSubject,
} from './subject.ts'
export { tenantOf, trustOf } from './trust.ts'
export {
  createNameRecorder,
  createUserDirectory,
  NAME_MEMORY_MS,
  type NamedUser,
  type UserDirectory,
} from './user-names.ts'
export { createSubjectVerifier, type SubjectVerifier } from './verify.ts'
export { trustOfSignIn } from './standing-sign-in.ts'
