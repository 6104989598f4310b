/**
 * Whether what was given may still be used: the entitlement by the files, and the revocations in force.
 * Every flow asks here, before it answers and again after its record is durable.
 */
export {
  assertEnabled,
  assertNotRevoked,
  assertStillValid,
  assertThawed,
  assertUserServed,
  assertValid,
  isValid,
  type ValidityDependencies,
} from './assert-still-valid.ts'
export { entitlement, isEntitled, usableFor } from './entitlement.ts'
export { createLiveSessionMonitor, type LiveSessionMonitor } from './live-sessions.ts'
export { type CredentialDependencies, dependenciesOfSignIn } from './credential-dependencies.ts'
export { clientConsentOwner, describeScope, kindOf, recordedScopeSchema, scopeOrderSchema } from './scopes.ts'
export { RevocationIndex, voidsGrant } from './revocation-index.ts'
