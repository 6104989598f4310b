import type { Clock } from '#clock'
import type { CurrentSnapshot, HostedTool } from '#config'
import type { Exchange, RequestOrigin, ToolCallFacts, TokenExchangeRequest } from '#flows/exchange'
import type { RedactionCache, Upstream } from '#flows/injected-request'
import type { AuditLog } from '#foundation/audit'
import type { Proofs } from '#foundation/outbound'
import type { Logger, Telemetry } from '#foundation/telemetry'
import type { Arguments } from '#openapi'
import type { AnswerLimits } from './answer-room.ts'

export interface ToolCallDependencies {
  readonly snapshot: CurrentSnapshot
  readonly exchange: Pick<Exchange, 'exchange'>
  readonly upstream: Pick<Upstream, 'send'>
  /** Of the keys that tokens are bound to. */
  readonly proofs: Proofs
  readonly redactions: RedactionCache
  readonly audit: AuditLog
  readonly telemetry: Telemetry
  readonly logger: Logger
  readonly clock: Clock
  /** A number from 0 to 1, for the pauses between attempts. */
  readonly chance: () => number
  /** Default: 64 MiB of a tenant, 128 MiB of all. */
  readonly answerLimits?: AnswerLimits
}

/** The user, or the agent, for whom a tool is called. */
export type OnBehalfOf = Pick<TokenExchangeRequest, 'subjectToken' | 'subjectTokenType'>

/** A call as it came from a listener: the caller is verified in the line, and nothing is decided yet. */
export interface ToolCallRequest {
  /** Its evidence says that Deputy hosts the server. */
  readonly origin: RequestOrigin
  readonly server: string
  /** The name by which the server has the tool. */
  readonly tool: string
  readonly arguments: Arguments
  readonly onBehalfOf: OnBehalfOf
  /**
   * Whom the listener has verified, for records and for the pause of an API that fails; the exchange verifies by
   * itself.
   */
  readonly who: { readonly tenant: string; readonly user?: string; readonly agent?: string }
  /** Ends the call: the client has cancelled it, or has gone. */
  readonly signal: AbortSignal
  /** Called after each page of an answer of several. */
  readonly onProgress?: (pages: number) => void
}

/** A call whose tool is known. */
export interface RunningCall {
  readonly request: ToolCallRequest
  readonly hosted: HostedTool
  readonly facts: ToolCallFacts
  /** The request's signal, and the end of the time that the call has. */
  readonly signal: AbortSignal
  /** Called before bytes of an answer are held. @throws DeputyError `answers_pending` */
  readonly onHeld: (bytes: number) => void
}
