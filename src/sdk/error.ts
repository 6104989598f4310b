/** A refusal of Deputy, or a failure on the way to it. */
export class DeputyClientError extends Error {
  override readonly name = 'DeputyClientError'
  /** Deputy's own code (docs/local-api.md); `unreachable` when there was no answer, `unexpected_answer` when it was none of Deputy's. */
  readonly reason: string
  /** The OAuth error code (RFC 6749 section 5.2). */
  readonly error: string
  /** What to do about it. */
  readonly next: string
  /** Whether the same request may succeed later, and in how many seconds. */
  readonly retryAfter: number | undefined
  /** For `deputy explain`. */
  readonly correlationId: string | undefined
  /** Where the user connects an account; with `interaction_required`, `reconnect_required` and `step_up_required`. */
  readonly connectUrl: string | undefined
  /** The service's claims challenge (JSON); with `step_up_required`. Without a `connectUrl`, the user signs in again with it. */
  readonly claims: string | undefined
  constructor(
    facts: {
      reason: string
      error: string
      message: string
      next: string
      retryAfter?: number | undefined
      correlationId?: string | undefined
      connectUrl?: string | undefined
      claims?: string | undefined
    },
    options?: ErrorOptions,
  ) {
    super(facts.message, options)
    this.reason = facts.reason
    this.error = facts.error
    this.next = facts.next
    this.retryAfter = facts.retryAfter
    this.correlationId = facts.correlationId
    this.connectUrl = facts.connectUrl
    this.claims = facts.claims
  }
}
