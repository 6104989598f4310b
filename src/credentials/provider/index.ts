/** Speaks with OAuth and OpenID providers: metadata, client authentication, token answers, revocation, and the dialects of those that differ. */
export { expiresInOf } from './answer-members.ts'
export { readRsaKey, readSigningKey, type SigningKey } from './authentication.ts'
export { type CallProvider, createProviderCalls } from './call.ts'
export { type CallFailure, challengeIn, failureOf, plainly, retryAfterOf, DEFAULT_WAIT_MS, wordsOf } from './failure.ts'
export { clientDocument, createClientAssertions } from './client-document.ts'
export {
  createProviderClients,
  createSignInClients,
  type ProviderClient,
  type ProviderClients,
  withNonce,
} from './client.ts'
export { fieldsOf, scopesOf } from './dialect.ts'
export { createIdentityProviders, type IdentityProviders, refusalOfIssuer } from './identity-provider.ts'
export { differences, draftOf, readMetadata } from './metadata.ts'
export {
  type AuthorizationServer,
  documentAuthentication,
  findAuthorizationServer,
  findProtectedResource,
  type ProtectedResource,
  registerAt,
  type RegisteredClient,
  registrableAuthentication,
  type RemoteFacts,
  remoteDownstreamText,
  remoteProviderText,
  usableScopes,
} from './remote/index.ts'
export { isPushed } from './pushed-request.ts'
export { refusedSubjectToken } from './refused-subject-token.ts'
export { type EndingTokens, revokeTokens } from './revocation.ts'
export { accessTokenClaims, audiencesOf, isBound, isOfAnother, problemOfAnswer, type Proof } from './token-answer.ts'
export { refreshUntilOf, tokenLifeOf } from './token-life.ts'
export { createUserinfo, type ReadUserinfo } from './userinfo.ts'
