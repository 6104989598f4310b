/**
 * Obtains credentials: one connector for each kind. The exchange calls it after policy has decided; a connector never widens what it is asked for.
 * Families: `oauth-grant/` (a user's grant), `token-endpoint/`, `cloud/`, `github/`, `minted/`, `vault/`, and static secrets.
 */
export {
  type Connectors,
  type Credential,
  type CredentialRequest,
  downstreamsOf,
  type CheckedOutSecret,
  type Principal,
  type Revocable,
  type RevocationOrder,
  type UpstreamOutcome,
} from './connector.ts'
export { createConnectors } from './create.ts'
export { apiOf, isOfInstallation } from './github/github-app.ts'
export { createGitHubTokens } from './github/github-token.ts'
export { kinds, narrowingOf, providerOf } from './kinds.ts'
export { createStatusIndex, readListName, STATUS_LIST_BITS } from './minted/status-index.ts'
export { bindGrants } from './oauth-grant/bind.ts'
export { createOAuthGrantConnector } from './oauth-grant/connector.ts'
export { sealTokens } from './oauth-grant/grant.ts'
export { createEndReplaced } from './oauth-grant/replaced.ts'
export { endSealed } from './oauth-grant/upstream-revocation.ts'
export { isAbout, judgeRejection } from './rejection.ts'
export type { RotationTerms } from './static.ts'
export { createProviderRequests } from './token-endpoint/ask.ts'
export { createTokenRequests } from './token-endpoint/token-request.ts'
