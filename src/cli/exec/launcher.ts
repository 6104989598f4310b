/**
 * What `deputy exec` starts: it waits on descriptor 3 for its program and becomes it. So the process exists, and
 * the kernel knows its parent, before it has any credential; pid and start time stay the same (execve(2)).
 * Standard input, output and error are the command's: nothing here may open them, for node would make them non-blocking.
 */
import { closeSync, readFileSync } from 'node:fs'

const CONTROL = 3
/** Node ignores these. An ignored signal stays ignored across execve, a handled one returns to its default (signal(7)). */
const IGNORED = ['SIGPIPE', 'SIGXFSZ'] as const

const order = readFileSync(CONTROL, 'utf8')
// The command does not inherit it.
closeSync(CONTROL)
// The parent has ended.
if (order === '') process.exit(1)
for (const signal of IGNORED) process.on(signal, () => undefined)
// From the one process that has the other end.
const { file, args, environment } = JSON.parse(order) as LaunchOrder
process.execve!(file, args, environment)

/** What the launcher becomes. */
export interface LaunchOrder {
  readonly file: string
  readonly args: string[]
  readonly environment: Record<string, string>
}
