/** Something wrong in a file, with where it is and what to write instead. */
export interface Problem {
  readonly file: string
  /** Counted from 1. */
  readonly line: number
  readonly message: string
  readonly fix: string
}

export const formatProblem = ({ file, line, message, fix }: Problem): string =>
  `${file}:${line}: ${message}\n    ${fix}`
