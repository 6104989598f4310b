import type { AuditLog, AuditRecord } from '#foundation/audit'
import type { Logger } from '#foundation/telemetry'

/** How long the record of an outcome waits for others (ms): they are made durable together. */
const WAIT_MS = 100
/** Records that are enough to be written at once. */
const MAX_WAITING = 200

/**
 * Records of calls that are over, written soon and not waited for: that of the credential was durable before the call.
 */
export interface Outcomes {
  write(record: AuditRecord): void
  /** Writes those that wait, and resolves when they are durable or have failed. */
  flush(): Promise<void>
}

export const createOutcomes = ({ audit, logger }: { readonly audit: AuditLog; readonly logger: Logger }): Outcomes => {
  let waiting: AuditRecord[] = []
  let timer: NodeJS.Timeout | undefined
  const writeOne = async (record: AuditRecord): Promise<void> => {
    try {
      await audit.append(record)
    } catch (error) {
      logger.error({ err: error, correlation_id: record.id }, 'the outcome of a tool call was not recorded')
    }
  }
  const flush = async (): Promise<void> => {
    clearTimeout(timer)
    timer = undefined
    const records = waiting
    waiting = []
    await Promise.all(records.map(writeOne))
  }
  return {
    write(record) {
      waiting.push(record)
      if (waiting.length >= MAX_WAITING) void flush()
      else timer ??= setTimeout(() => void flush(), WAIT_MS)
    },
    flush,
  }
}
