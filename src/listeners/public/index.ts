/**
 * What other machines and browsers may read or call: the connect pages, the token endpoint for identity assertions and agents, status lists, metrics,
 * the client document.
 */
export { agentTokenEndpoint, agentMetadata } from './agent-token.ts'
export { clientDocuments } from './client-document.ts'
export { identityAssertionEndpoint, identityAssertionMetadata } from './identity-assertion.ts'
export { createConnectPages } from './connect-pages.ts'
export { createMetricsEndpoint } from './metrics.ts'
export { createAnswerFailure } from './own-tokens.ts'
export { authorizationEndpoints, publicTokenEndpoint } from './token-endpoint.ts'
export { statusEndpoint } from './status-list.ts'
