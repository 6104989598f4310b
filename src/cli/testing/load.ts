/** Calls the cases over and over, for rate and latency. */
import type { TestCase } from './cases.ts'
import type { Target } from './outcome.ts'

export interface LoadResult {
  readonly calls: number
  /** Calls whose outcome was another kind than expected. */
  readonly unexpected: number
  readonly perSecond: number
  /** ms. */
  readonly p50: number
  readonly p95: number
  readonly p99: number
}

/** @param callers calls at the same time; @param seconds how long */
export const runLoad = async (
  cases: readonly TestCase[],
  target: Target,
  { callers, seconds }: { readonly callers: number; readonly seconds: number },
): Promise<LoadResult> => {
  const called = cases.flatMap((test) =>
    test.tool === undefined || test.fault !== undefined ? [] : [{ ...test, tool: test.tool }],
  )
  if (called.length === 0) throw new Error('no case of the file calls a tool without a fault')
  const times: number[] = []
  let unexpected = 0
  const began = performance.now()
  const until = began + seconds * 1000
  await Promise.all(
    Array.from({ length: callers }, async (_, caller) => {
      for (let at = caller; performance.now() < until; at += 1) {
        const test = called[at % called.length]!
        const start = performance.now()
        const { kind } = await target.call(test)
        times.push(performance.now() - start)
        if (kind !== (test.expect.outcome ?? 'answer')) unexpected += 1
      }
    }),
  )
  const elapsed = (performance.now() - began) / 1000
  times.sort((a, b) => a - b)
  const at = (part: number): number => times[Math.min(times.length - 1, Math.floor(times.length * part))] ?? 0
  return {
    calls: times.length,
    unexpected,
    perSecond: times.length / elapsed,
    p50: at(0.5),
    p95: at(0.95),
    p99: at(0.99),
  }
}
