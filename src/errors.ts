/**
 * The one taxonomy of everything that Deputy can refuse or fail at.
 *
 * Inside the daemon an error is a `DeputyError` with a code from this table; only the edges (`http/`, `cli/`)
 * turn it into an OAuth error response (RFC 6749 section 5.2), a page or an exit code. A sentence says what
 * happened, `next` says what to do about it. Both may name the `{facts}` given with the error, and facts must
 * never be secret: they reach callers, logs and audit records.
 */
import { daemonErrors } from './errors/daemon.ts'
import { grantErrors } from './errors/grant.ts'
import { proxyErrors } from './errors/proxy.ts'
import { requestErrors } from './errors/request.ts'
import { subjectErrors } from './errors/subject.ts'
import { targetErrors } from './errors/target.ts'
import { toolErrors } from './errors/tool.ts'
import { workloadErrors } from './errors/workload.ts'
import type { ErrorKind } from './errors/kind.ts'

export type { ErrorCategory, OAuthErrorCode } from './errors/kind.ts'

/** Every error code. Each subject has its part of the table in `errors/`. */
export const taxonomy = {
  ...requestErrors,
  ...workloadErrors,
  ...subjectErrors,
  ...targetErrors,
  ...toolErrors,
  ...grantErrors,
  ...proxyErrors,
  ...daemonErrors,
} as const satisfies Record<string, ErrorKind>

export type ErrorCode = keyof typeof taxonomy
export type ErrorFacts = Readonly<Record<string, string | number>>

const fill = (template: string, facts: ErrorFacts): string =>
  template.replace(/\{(\w+)\}/g, (_, name: string) => String(facts[name] ?? ''))

/** An error of the taxonomy. `cause` is for logs only and never reaches a caller. */
export class DeputyError extends Error {
  override readonly name = 'DeputyError'
  readonly code: ErrorCode
  readonly facts: ErrorFacts
  constructor(code: ErrorCode, facts: ErrorFacts = {}, options?: { cause?: unknown }) {
    super(fill(taxonomy[code].sentence, facts), options)
    this.code = code
    this.facts = facts
  }
  get kind(): ErrorKind {
    return taxonomy[this.code]
  }
  /** What the reader should do next. */
  get next(): string {
    return fill(taxonomy[this.code].next, this.facts)
  }
  /** Seconds after which a retry makes sense, for `Retry-After`; undefined when a retry does not help. */
  get retryAfter(): number | undefined {
    if (!this.kind.retryable) return undefined
    const seconds = Number(this.facts['seconds'])
    return Number.isFinite(seconds) && seconds > 0 ? Math.ceil(seconds) : 1
  }
}

/** Makes an error of the taxonomy: `throw refuse('target_unknown', { target, server })`. */
export const refuse = (code: ErrorCode, facts: ErrorFacts = {}, cause?: unknown): DeputyError =>
  new DeputyError(code, facts, cause === undefined ? undefined : { cause })

/**
 * An error for admins: its sentence, the words of another service, and `details` (paths, names of keys), which callers do not get.
 * @returns one line, without secrets
 */
export const forAdmins = (error: DeputyError): string => {
  const words = wordsOfPeer(error)
  const { details } = error.facts
  return [
    error.message,
    ...(words === undefined ? [] : [`It said: ${words}`]),
    ...(details === undefined ? [] : [details]),
  ].join(' ')
}

/** The problem of an error for admins, as `forAdmins`. */
export const problemForAdmins = (error: DeputyError): string => {
  const { problem = error.message } = error.facts
  const words = wordsOfPeer(error)
  return words === undefined ? String(problem) : `${problem}: ${words}`
}

/** What another service has said; `yes` stands for an answer whose words are not known. */
const wordsOfPeer = ({ facts: { answered } }: DeputyError): ErrorFacts[string] | undefined =>
  answered === 'yes' ? undefined : answered

const MAX_REASON = 300

/** Whatever was thrown, as admins read it later in a row or a history: as `forAdmins`, 300 characters at most. */
export const reasonForAdmins = (thrown: unknown): string =>
  (thrown instanceof DeputyError ? forAdmins(thrown) : (thrown as Error).message).slice(0, MAX_REASON)

/** Whatever was thrown, as an error of the taxonomy; what was not foreseen becomes `internal` and keeps its cause. */
export const asDeputyError = (thrown: unknown): DeputyError =>
  thrown instanceof DeputyError ? thrown : new DeputyError('internal', {}, { cause: thrown })
