/**
 * Whether this node may hand out anything, and whether the other nodes know what this one has revoked (promise 4).
 * The daemon opens it; the exchange asks it before each answer, and a revocation waits for its confirmation.
 */
export { createIncarnations } from './incarnation.ts'
export { ClusterMembership } from './cluster-membership.ts'
export type { LookAgain } from './membership-options.ts'
export { type ClusterAcknowledgement, type Membership, onlyNode } from './membership.ts'
