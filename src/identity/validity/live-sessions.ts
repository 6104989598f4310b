import { asDeputyError, type DeputyError } from '#errors'
import type { CredentialDependencies } from './credential-dependencies.ts'
import { assertStillValid, type ValidityDependencies } from './assert-still-valid.ts'

/** A use that continues after the answer, such as a connection that was opened with a credential. */
export interface LiveSession {
  readonly dependsOn: CredentialDependencies
  /** Ends it at once; what it relies on does not stand any more. */
  readonly end: (error: DeputyError) => void
}

/** Interval of the review (ms): changes of files, leases and other nodes are not announced. */
const REVIEW_INTERVAL_MS = 300

/** Ends live sessions when something that they depend on ends (promise 4): at once for changes that this node learns of, else within `REVIEW_INTERVAL_MS`. */
export const createLiveSessionMonitor = (deps: ValidityDependencies) => {
  const uses = new Set<LiveSession>()
  const review = (): void => {
    for (const use of uses) {
      try {
        assertStillValid(use.dependsOn, deps)
      } catch (thrown) {
        uses.delete(use)
        use.end(asDeputyError(thrown))
      }
    }
  }
  deps.revocationIndex.onChange(review)
  const timer = setInterval(review, REVIEW_INTERVAL_MS)
  timer.unref()
  return {
    /** @returns what forgets it. @throws DeputyError when it does not stand now */
    add(use: LiveSession): () => void {
      assertStillValid(use.dependsOn, deps)
      uses.add(use)
      return () => {
        uses.delete(use)
      }
    },
    close(): void {
      clearInterval(timer)
    },
  }
}
export type LiveSessionMonitor = ReturnType<typeof createLiveSessionMonitor>
