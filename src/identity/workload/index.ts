/** Which server calls. Evidence of the caller (kernel credentials, assertion, secret, service-account token) goes in, one registered server comes out. */
export { assertApproved, type Attest, createAttestor, warningOf } from './attest.ts'
export type { AttestedWorkload } from './attestor.ts'
export type { CallerEvidence, PeerProcess } from './caller-evidence.ts'
export { clientOf, verifyAssertionOf } from './client-assertion.ts'
export { type CheckClientSecret, createClientSecretCheck, hashClientSecret } from './client-secret.ts'
export { createExecSessions, type ExecEvent, type ExecSession, type ExecSessions, mayExec } from './exec-sessions.ts'
export { createPeers, type Peers, readPeerCredentials } from './peer-credentials.ts'
export { HostedWorkload } from './hosted.ts'
export { isSameProcess, readProcess } from './process-table.ts'
export {
  type CheckProof,
  type CheckResourceProof,
  createProofCheck,
  createResourceProofCheck,
  PROOF_ALGORITHMS,
  type ProofCheckOptions,
} from './proof-of-possession.ts'
export { isInUse, overlappingServers, registryOf } from './registry.ts'
export { exportServerJson, importServerJson } from './server-json.ts'
export { readUsage } from './usage.ts'
