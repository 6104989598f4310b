import { CommandError } from '../terminal.ts'

/** An error as people read it, with its next step. */
export const formatFailure = (error: unknown): string =>
  error instanceof CommandError && error.next !== undefined
    ? `${error.message}\n  Next: ${error.next}`
    : (error as Error).message
