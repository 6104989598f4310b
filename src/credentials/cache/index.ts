/** Credentials that were obtained before and still last, in memory or shared by nodes. What a revocation covers is never served from here. */
export { type CachedCredential, credentialKey } from './cached-credential.ts'
export { createConfigurationDigest, createSharedCredentials, type SharedCredentials } from './shared-credentials.ts'
