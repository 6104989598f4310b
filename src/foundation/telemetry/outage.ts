import { DeputyError } from '#errors'
import type { Logger } from './logger.ts'

/** What the shared store's absence makes fail. The first alone says that it is away: the others have other causes as well. */
const BEGINS = 'store_unavailable'
const FOLLOWS: readonly string[] = [BEGINS, 'membership_lost', 'audit_unavailable']

/** An answer counts for the end of an outage when nothing has failed for so long (ms): one connection may work while others do not. */
const QUIET_MS = 500

/** Whether an error, or what caused it, has one of these codes. */
const stemsFrom = (error: unknown, codes: readonly string[]): boolean => {
  for (let each = error; each instanceof Error; each = each.cause)
    if (each instanceof DeputyError && codes.includes(each.code)) return true
  return false
}

export interface OutageLog {
  /** For everything that logs: errors that stem from the outage are told at debug as long as it lasts. */
  readonly logger: Logger
  /** The store has answered. */
  answered(): void
}

/**
 * Tells an outage of the shared store by two lines: `store unavailable: cause`, and `store available again` with what it has cost.
 * @param options.store where the store is, for the operator
 * @param options.elapsed never goes back (ms)
 */
export const createOutageLog = (options: {
  readonly logger: Logger
  readonly store: string
  readonly elapsed: () => number
}): OutageLog => {
  const { logger, store, elapsed } = options
  let outage: { readonly since: number; last: number; refused: number } | undefined

  /** @returns whether the record belongs to the outage */
  const takes = (fields: object, isRequest: boolean): boolean => {
    const error = 'err' in fields ? fields.err : undefined
    if (outage === undefined && stemsFrom(error, [BEGINS])) {
      outage = { since: elapsed(), last: 0, refused: 0 }
      const problem = (error as Error).message
      logger.warn({ store, problem }, 'store unavailable: requests are refused until it answers')
    }
    if (outage === undefined || !stemsFrom(error, FOLLOWS)) return false
    outage.last = elapsed()
    if (isRequest) outage.refused += 1
    return true
  }
  const at =
    (level: 'info' | 'warn' | 'error') =>
    (fields: object, message: string): void => {
      if (takes(fields, false)) logger.debug(fields, message)
      else logger[level](fields, message)
    }
  return {
    logger: {
      debug(fields, message) {
        takes(fields, 'correlation_id' in fields)
        logger.debug(fields, message)
      },
      info: at('info'),
      warn: at('warn'),
      error: at('error'),
    },
    answered() {
      if (outage === undefined || elapsed() - outage.last < QUIET_MS) return
      const { since, refused } = outage
      outage = undefined
      logger.info({ store, seconds: Math.round((elapsed() - since) / 100) / 10, refused }, 'store available again')
    },
  }
}
