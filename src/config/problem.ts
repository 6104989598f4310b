/** Something wrong in a file, with where it is and what to write instead. */
export interface Problem {
  readonly file: string
  /** Counted from 1. */
  readonly line: number
  /** Counted from 1, where it is known. */
  readonly column?: number
  /** The line itself, where it helps. */
  readonly excerpt?: string
  readonly message: string
  readonly fix: string
}

export const formatProblem = ({ file, line, column, message, excerpt, fix }: Problem): string =>
  [
    `${file}:${line}${column === undefined ? '' : `:${column}`}: ${message}`,
    ...(excerpt === undefined ? [] : [`    | ${excerpt}`]),
    `    ${fix}`,
  ].join('\n')
