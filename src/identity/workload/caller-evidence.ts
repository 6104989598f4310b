import type { Secret } from '#foundation/crypto'
import type { HostedWorkload } from './hosted.ts'

/** What is known about the process at the other end of a Unix socket, from the kernel. */
export interface PeerProcess {
  readonly pid: number
  readonly uid: number
  readonly gid: number
  /** When it began, in clock ticks since boot; absent when it had ended by the time of the look-up. */
  readonly startedAt?: string
  /** Absent when it could not be read (another user's process, without the capability to look). */
  readonly exe?: string
  readonly sha256?: string
}

/** What a request brings along to prove who calls. Parsed, not yet believed. */
export interface CallerEvidence {
  /** Set by Deputy's own listener of a server that it hosts; then nothing else proves the server. */
  readonly hosted?: HostedWorkload
  /** Undefined over TCP. */
  readonly peer?: PeerProcess
  /** `client_id` of the form, or of the Basic header. */
  readonly clientId?: string
  readonly clientSecret?: Secret
  /** Value of `client_assertion` (RFC 7523), when `client_assertion_type` was right. */
  readonly clientAssertion?: string
}
