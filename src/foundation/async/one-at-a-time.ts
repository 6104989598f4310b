/**
 * Work that comes again and again: while one run lasts, no other begins. Each work has a turn of its own, so that one
 * that waits for a slow
 * peer holds up no other.
 * @param work throws nothing
 */
export const oneAtATime = (work: () => Promise<void>): (() => void) => {
  let isUnderWay = false
  return () => {
    if (isUnderWay) return
    isUnderWay = true
    void work().finally(() => {
      isUnderWay = false
    })
  }
}
