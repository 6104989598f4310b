import type { Server } from '#config'
import type { PeerProcess } from './caller-evidence.ts'
import type { ExecSession } from './exec-sessions.ts'

/** A workload whose identity has been proved. */
export interface AttestedWorkload {
  readonly server: Server
  readonly method: 'unix' | 'private_key_jwt' | 'client_secret' | 'kubernetes' | 'exec' | 'hosted'
  readonly peer?: PeerProcess
  /** Of a server that `deputy exec` has started. */
  readonly session?: ExecSession
  /** A warning for the response and the record, for example that the server is deprecated. */
  readonly warning?: string
}
