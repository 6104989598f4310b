/** What other machines may read or call: the token endpoint for identity assertions, status lists, metrics, the client document. */
export { clientDocuments } from './client-document.ts'
export { identityAssertionEndpoint, identityAssertionMetadata } from './identity-assertion.ts'
export { createMetricsEndpoint } from './metrics.ts'
export { statusEndpoint } from './status-list.ts'
