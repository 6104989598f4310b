/** Work that no caller waits for; the end of the daemon does. */
export interface Background {
  /** @param problem what a failure is called in the log */
  readonly start: (problem: string, work: Promise<unknown>) => void
  /** Resolves when all that is under way now has ended. */
  readonly ended: () => Promise<void>
}

/** @param failed called with each failure */
export const createBackground = (failed: (problem: string, error: unknown) => void): Background => {
  const underWay = new Set<Promise<unknown>>()
  return {
    start(problem, work) {
      const done: Promise<unknown> = work
        .catch((error: unknown) => {
          failed(problem, error)
        })
        .finally(() => {
          underWay.delete(done)
        })
      underWay.add(done)
    },
    async ended() {
      await Promise.all(underWay)
    },
  }
}
