/** Where a command gets what it has to know: from its options, else from the person at the terminal. */
import { askFor, type Judged, type Question } from './asking.ts'
import { type Asking, CommandError, exit, shownText, type Terminal } from './terminal.ts'

export interface Needed<Value> extends Question<Value> {
  /** As people write it: `--issuer URL`. */
  readonly option: string
  readonly given: string | undefined
}

/** Nothing that has to be said was said. */
const missing = (option: string): CommandError =>
  new CommandError(exit.usage, `${option} is missing.`, `Add ${option}, or run the command at a terminal.`)

/** A judged value. @throws CommandError `usage` */
export const valueOf = <Value>(judged: Judged<Value>): Value => {
  if ('value' in judged) return judged.value
  const next = judged.canInsist === true ? 'Add --offline to write it without this check.' : undefined
  throw new CommandError(exit.usage, judged.problem, next)
}

export class Answers {
  readonly asking: Asking | undefined
  readonly #terminal: Terminal

  constructor(terminal: Terminal, asking: Asking | undefined) {
    this.#terminal = terminal
    this.asking = asking
  }

  /** Shows a line. */
  readonly tell = (line: string): void => {
    this.#terminal.err(`${shownText(line)}\n`)
  }

  /** @throws CommandError `usage` where the option is wrong, or missing with no person to ask */
  async need<Value>({ option, given, ...question }: Needed<Value>): Promise<Value> {
    if (given !== undefined) return valueOf(await question.judge(given))
    if (this.asking === undefined) throw missing(option)
    return askFor(this.asking, question, this.tell)
  }

  /** As `need`; undefined where there is neither an option nor a person, and for an empty answer. */
  async may<Value>(needed: Needed<Value>): Promise<Value | undefined> {
    if (needed.given === undefined && this.asking === undefined) return undefined
    return this.need<Value | undefined>({
      ...needed,
      judge: (answer) => (answer === '' ? { value: undefined } : needed.judge(answer)),
    })
  }
}

/** Judges by a schema. */
export const judgeBy =
  (
    schema: { safeParse(text: string): { success: boolean; error?: { issues: readonly { message: string }[] } } },
    what: string,
  ) =>
  (text: string): Judged<string> => {
    const { success, error } = schema.safeParse(text)
    return success
      ? { value: text }
      : { problem: `${JSON.stringify(text)} cannot be ${what}: ${error?.issues[0]?.message}.` }
  }

export const judgeText = (text: string): Judged<string> =>
  text === '' ? { problem: 'An answer is needed.' } : { value: text }
