/**
 * The line of an exchange: `exchange.ts` runs its steps. Introspection, exec sessions, identity assertions and tokens of agents have steps of their own and
 * share `with-audit.ts`.
 * Listeners call it with what they parsed; nothing leaves before its audit record is durable.
 */
export { authorize, candidateScopes } from './authorize.ts'
export { type AgentRequest, createAgentTokens, type IssueAgentToken } from './agent-token.ts'
export { createExchange, type Exchange } from './exchange.ts'
export { type BeginExec, createExecBegin } from './exec.ts'
export { createIdentityAssertions, type RedeemIdentityAssertion } from './identity-assertion.ts'
export { type AllowedInjection, allowInjection, type Injection } from './injection.ts'
export type { IssuedToken, OpenedConnection } from './issue.ts'
export { isLeaseWanted } from './lease-life.ts'
export { Memo, repeatable, type RepeatableRequest } from './memo.ts'
export { createMintedLife } from './minted-life.ts'
export { createObtain, createRecall } from './obtain.ts'
export { holderOf } from './obtain-credential.ts'
export {
  LOGIN_SESSION_TOKEN,
  LOGIN_SESSION_TOKEN_TYPE,
  type RequestOrigin,
  type TokenExchangeRequest,
  type TokenRequest,
  type ToolCallFacts,
} from './request.ts'
export type { Presentation } from './possession.ts'
export { createServerView, type HostedCaller, type ServerView } from './server-view.ts'
export { createStatusLists, type StatusLists } from './status-list.ts'
export { createSubjectState } from './subject-state.ts'
export { assertForAgent, resolveTarget } from './target.ts'
export { createTokenState, type TokenState } from './token-state.ts'
export { assertToolScopes, toolOf } from './tool.ts'
