/**
 * The one way out to the network. Every request to another machine passes its guard (addresses, redirects, sizes, deadlines).
 * Errors of connections become sentences here, with secrets struck out.
 */
export { type AddressRules, isLoopbackHost, NAMED_BY_SETTINGS } from './address.ts'
export { connectionProblem } from './connection-problem.ts'
export type { ClientCertificate, Egress, EgressInit } from './egress.ts'
export { createEgress } from './fetch.ts'
export { createConnectionGuard, type Lookup, refusedByGuard } from './guard.ts'
export { readHostRoutes } from './hosts.ts'
export { createProofs, type Proofs } from './proofs.ts'
export { readRetryAfter } from './retry-after.ts'
export { struck, told } from './struck.ts'
