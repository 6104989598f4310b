import { refuse } from '#errors'

/**
 * Bytes of answers that are held at a time: of all calls, and of those of one tenant, so that one leaves room for the
 * others.
 */
export interface AnswerLimits {
  readonly all: number
  readonly tenant: number
}

const LIMITS: AnswerLimits = { all: 134_217_728, tenant: 67_108_864 }

/** The memory of one call. */
export interface AnswerRoom extends Disposable {
  /** @throws DeputyError `answers_pending` where there is no room for so many more bytes */
  readonly hold: (bytes: number) => void
}

/**
 * The memory that answers of APIs may have while they are read: each call may have 16 MiB a page, and many calls run at
 * a time.
 */
export const createAnswerRooms = (limits: AnswerLimits = LIMITS): { open(tenant: string): AnswerRoom } => {
  const held = new Map<string, number>()
  let all = 0
  const add = (tenant: string, bytes: number): void => {
    const now = (held.get(tenant) ?? 0) + bytes
    if (now === 0) held.delete(tenant)
    else held.set(tenant, now)
    all += bytes
  }
  return {
    open(tenant) {
      let own = 0
      return {
        hold(bytes) {
          if ((held.get(tenant) ?? 0) + bytes > limits.tenant)
            throw refuse('answers_pending', { whom: `the tenant ${tenant}`, bytes: limits.tenant })
          if (all + bytes > limits.all) throw refuse('answers_pending', { whom: 'all tenants', bytes: limits.all })
          own += bytes
          add(tenant, bytes)
        },
        [Symbol.dispose]() {
          add(tenant, -own)
          own = 0
        },
      }
    },
  }
}
