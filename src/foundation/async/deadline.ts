/** The one race of work against a timer. */

/**
 * What work resolves to, or an error once `ms` are over. The work continues without the caller, and its failure is
 * no unhandled one.
 * @throws what the work throws, and `late()`
 */
export const within = async <T>(ms: number, work: Promise<T>, late: () => Error): Promise<T> => {
  const { promise: over, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    reject(late())
  }, ms)
  work.catch(() => undefined)
  try {
    return await Promise.race([work, over])
  } finally {
    clearTimeout(timer)
  }
}
