/**
 * The line of a revocation: `revoke.ts` runs its steps. The admin API and security events call it.
 * When it returns, no node hands out what the revocation covers.
 */
export { createEndAgain } from './end-again.ts'
export { liftProofOf, type LastingOrder } from './lifted.ts'
export { createLookAgain, keepOrders } from './look-again.ts'
export { createNamedCheck, type NamedCheck } from './named.ts'
export { restoreOrders } from './restore.ts'
export { createRevoker, type Revoker } from './revoke.ts'
