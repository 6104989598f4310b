/**
 * Sealing of records, the `Secret` type that does not print, fingerprints, and the keys that wrap data keys.
 * It keeps no state but the key ring, and imports only files and lru.
 */
export { lengthPrefixed } from './additional-data.ts'
export { refusedHeaderOf, type RereadableKeys, verifyByAnyKey, verifySignatureByAnyKey } from './any-key.ts'
export { once, sealedAnew } from './bind.ts'
export { compactJws, isCompactJws, signedPartOf } from './compact-jws.ts'
export { type Envelope, OWN_TENANT, type RecordName } from './envelope.ts'
export { signEs256, verifyEs256 } from './es256.ts'
export { createFingerprint, createKeyedDigest, equalInConstantTime, type Fingerprint } from './fingerprint.ts'
export {
  dropEarlierKeys,
  type KeyEncryptionKey,
  keyFromFile,
  keyFromText,
  newKeyText,
  prependKey,
  withEarlierKeys,
} from './key-encryption-key.ts'
export { mergeKeyFiles, parseKeyFile } from './key-file.ts'
export { Keyring } from './keyring.ts'
export {
  createProofKey,
  openProofKey,
  type ProofKey,
  proofKeyText,
  type ProvedRequest,
  signProof,
} from './proof-key.ts'
export { randomText } from './random-text.ts'
export { NO_TEXT, secretText } from './secret-text.ts'
export { Secret } from './secret.ts'
export { createTimeOrderedIds } from './time-ordered-id.ts'
