import { type DeputyError, refuse } from '#errors'

/** An argument of a tool call that is not sent. @param problem ends without a period */
export const argumentRefused = (argument: string, problem: string): DeputyError =>
  refuse('argument_refused', { argument, problem })
