import { asDeputyError, type DeputyError } from '#errors'
import type { AuditLog, AuditRecord } from '#foundation/audit'

/** A line whose outcome is recorded before it is let go. @template Proved what the steps have proved */
export interface AuditedLine<Proved> {
  readonly steps: () => Promise<Proved>
  readonly issued: (proved: Proved) => AuditRecord
  /** The record of a refusal; undefined where none is kept. */
  readonly refused: (error: DeputyError) => AuditRecord | undefined
  /** @throws where what the outcome rests on was taken away meanwhile: the record may have waited for the disk */
  readonly assertValid: (proved: Proved) => void
  /** Called once, as soon as it is known how the line ends. What the steps have begun is undone where it ends with an error. */
  readonly ended?: (error?: DeputyError) => void
}

export interface WithAuditDependencies {
  readonly audit: AuditLog
  /** Repeated refusals of a rate limit are recorded once; otherwise a caller could fill the log. */
  readonly rates: { isRepeated(error: unknown): boolean }
}

/**
 * Runs the steps, makes their outcome durable, asks once more whether all of it is valid, and only then lets it go (promises 3
 * and 4). A refusal is recorded like an issue. Where a record cannot be written, that is what the caller learns.
 * @throws DeputyError what the steps and `assertValid` throw, `audit_unavailable`
 */
export const withAudit = async <Proved>(
  { audit, rates }: WithAuditDependencies,
  line: AuditedLine<Proved>,
): Promise<Proved> => {
  let proved: Proved
  try {
    proved = await line.steps()
    await audit.append(line.issued(proved))
    line.assertValid(proved)
  } catch (thrown) {
    const error = asDeputyError(thrown)
    line.ended?.(error)
    const record = error.code === 'audit_unavailable' || rates.isRepeated(error) ? undefined : line.refused(error)
    if (record !== undefined) await audit.append(record)
    throw error
  }
  line.ended?.()
  return proved
}
