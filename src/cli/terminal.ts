import { onOneLine } from '#foundation/text'

/** Asks for lines. Closed after use: it keeps the terminal until then. */
export interface Asking {
  /**
   * @param secret the answer is not shown while it is typed
   * @throws CommandError where the person ends the command with Ctrl-C or Ctrl-D
   */
  ask(question: string, options?: { readonly secret?: boolean }): Promise<string>
  /** Ends with the first Ctrl-C or Ctrl-D. */
  readonly signal: AbortSignal
  close(): void
}

/** Where the CLI reads and writes; passed in, so that a test can hold it. */
export interface Terminal {
  readonly out: (text: string) => void
  readonly err: (text: string) => void
  /** Resolves when it can take more. Absent: everything is for `out`. */
  readonly write?: (chunk: Uint8Array) => Promise<void>
  /** The bytes of standard input, to its end. */
  readonly input: () => Promise<Uint8Array>
  readonly isInteractive: boolean
  /** Begins to ask the person at the terminal. Absent where no person is there to answer: input or output is no terminal. */
  readonly openQuestions?: () => Asking
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly workingFolder: string
}

/** Exit codes that scripts can rely on. */
export const exit = {
  ok: 0,
  failed: 1,
  usage: 2,
  configuration: 3,
  unreachable: 4,
  unverified: 5,
  unknown: 6,
  start: 7,
  /** Another daemon has the name of this node. */
  replaced: 8,
  /** The person at the terminal has ended the command: as in a shell, 128 and the number of SIGINT. */
  interrupted: 130,
} as const

/** What to type where no daemon runs. `run` adds the folder that `--home` names. */
export const START_DAEMON = 'deputy serve'

/** Ends a command with an exit code. The message is empty when it has been printed already. */
export class CommandError extends Error {
  override readonly name = 'CommandError'
  readonly code: number
  readonly next: string | undefined
  constructor(code: number, message: string, next?: string) {
    super(message)
    this.code = code
    this.next = next
  }
}

/** A message of several lines, without control characters: its words may come from users, servers and providers. */
export const shownText = (text: string): string =>
  text
    .split(/([\n\t])/)
    .map((part, at) => (at % 2 === 1 ? part : onOneLine(part)))
    .join('')

const cell = (value: unknown): string => onOneLine(textOf(value))

const textOf = (value: unknown): string => {
  if (value === null || value === undefined) return '-'
  if (Array.isArray(value)) return value.map(String).join(' ') || '-'
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}

/** Rows as a table for people: one line a row, columns as wide as they must be. */
export const table = (columns: readonly string[], rows: readonly Readonly<Record<string, unknown>>[]): string => {
  const texts = rows.map((row) => columns.map((column) => cell(row[column])))
  const widths = columns.map((column, at) => Math.max(column.length, ...texts.map((row) => row[at]!.length)))
  const line = (row: readonly string[]): string =>
    row
      .map((text, at) => (at === row.length - 1 ? text : text.padEnd(widths[at]!)))
      .join('  ')
      .trimEnd()
  return [line(columns.map((column) => column.toUpperCase().replaceAll('_', ' '))), ...texts.map(line)].join('\n')
}

/** JSON of the same meaning, in which no text from elsewhere steers the terminal: `JSON.stringify` escapes no more than U+0000 to U+001F. */
const jsonFor = (value: unknown): string =>
  JSON.stringify(value, null, 2).replace(/[\x7f-\x9f\p{Cf}\p{Zl}\p{Zp}]/gu, (character) =>
    Array.from(
      { length: character.length },
      (_, at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`,
    ).join(''),
  )

/** Prints a result: as JSON when asked to, else as `text` says. Names and words in it come from users, servers and providers. */
export const print = (terminal: Terminal, options: { json?: boolean }, value: unknown, text: () => string): void => {
  terminal.out(`${options.json === true ? jsonFor(value) : shownText(text())}\n`)
}

/** Shows on standard error what the command waits for, once it takes longer than a second. */
export const withProgress = async <T>(terminal: Terminal, what: string, work: Promise<T>): Promise<T> => {
  const timer = setTimeout(() => {
    if (terminal.isInteractive) terminal.err(`${what} …\n`)
  }, 1000)
  try {
    return await work
  } finally {
    clearTimeout(timer)
  }
}

/** Times are shown to the second, in UTC. */
export const shownTime = (at: number): string => new Date(at).toISOString().replace(/\.\d+Z$/, 'Z')
