import { asDeputyError, type DeputyError } from '#errors'
import type { CredentialDependencies } from './credential-dependencies.ts'
import { assertStillValid, type ValidityDependencies } from './assert-still-valid.ts'

/** A use that continues after the answer, such as a connection that was opened with a credential. */
export interface LiveSession {
  readonly dependsOn: CredentialDependencies
  /** Ends it at once; what it relies on does not stand any more. */
  readonly end: (error: DeputyError) => void
}

/** How often is asked when nothing was told (ms): files, leases and other nodes change without a word. */
const LOOK = 300

/** Ends uses that last when what they rely on ends (promise 4): at once for what this node is told, else within `LOOK`. */
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
  const timer = setInterval(review, LOOK)
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
