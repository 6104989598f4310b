/** Questions to the person at a terminal, line by line. */
import { createInterface, type Interface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { type Asking, CommandError, exit } from './terminal.ts'

export interface AskingStreams {
  readonly input: NodeJS.ReadableStream
  readonly output: NodeJS.WritableStream
}

const ended = (): CommandError => new CommandError(exit.interrupted, '\nStopped: nothing was written.')

/** Passes on what readline writes, except for the echo of what is typed where no question waits, and of secrets. */
class Echo extends Writable {
  isMuted = true
  readonly #output: NodeJS.WritableStream

  constructor(output: NodeJS.WritableStream) {
    super()
    this.#output = output
  }

  /** Writes in any case. */
  show(text: string): void {
    this.#output.write(text)
  }

  override _write(chunk: Buffer | string, _encoding: BufferEncoding, done: () => void): void {
    if (!this.isMuted) this.#output.write(chunk)
    done()
  }
}

/** Lines that were typed or pasted before their question wait for it; a secret is taken only after its question. */
class Questions implements Asking {
  readonly #echo: Echo
  readonly #readline: Interface
  readonly #typed: string[] = []
  readonly #stop = new AbortController()
  #waiting: { resolve(line: string): void; reject(error: Error): void } | undefined

  constructor({ input, output }: AskingStreams) {
    this.#echo = new Echo(output)
    this.#readline = createInterface({ input, output: this.#echo, terminal: true, historySize: 0 })
    this.#readline.on('line', (line) => {
      if (this.#waiting === undefined) this.#typed.push(line)
      else this.#waiting.resolve(line)
      this.#waiting = undefined
    })
    // Ctrl-C, and Ctrl-D or the end of the input.
    for (const event of ['SIGINT', 'close'] as const) this.#readline.on(event, () => this.#end())
  }

  get signal(): AbortSignal {
    return this.#stop.signal
  }

  #end(): void {
    this.#stop.abort(ended())
    this.#waiting?.reject(ended())
    this.#waiting = undefined
  }

  async ask(question: string, { secret = false }: { readonly secret?: boolean } = {}): Promise<string> {
    if (secret) this.#forgetTyped()
    else if (this.#typed.length > 0) return this.#typed.shift()!
    this.signal.throwIfAborted()
    this.#readline.setPrompt(question)
    this.#echo.isMuted = false
    this.#readline.prompt()
    this.#echo.isMuted = secret
    try {
      return await new Promise<string>((resolve, reject) => {
        this.#waiting = { resolve, reject }
      })
    } finally {
      if (secret) this.#echo.show('\n')
      this.#echo.isMuted = true
    }
  }

  /** What was typed before the question of a secret was meant for another one, and would be shown with it. */
  #forgetTyped(): void {
    this.#typed.length = 0
    this.#readline.write(null, { ctrl: true, name: 'e' })
    this.#readline.write(null, { ctrl: true, name: 'u' })
  }

  close(): void {
    this.#readline.removeAllListeners()
    this.#readline.close()
  }
}

/** Begins to ask on streams, such as those of the process. */
export const askOn = (streams: AskingStreams): Asking => new Questions(streams)

/** An answer, or what is wrong with it. */
export type Judged<Value> = { readonly value: Value } | { readonly problem: string; readonly canInsist?: boolean }

export interface Question<Value> {
  readonly text: string
  /** Taken for an empty answer. */
  readonly preset?: string
  readonly secret?: boolean
  readonly judge: (answer: string) => Judged<Value> | Promise<Judged<Value>>
  /** The value of an answer that a person insists on although it was found wanting. */
  readonly insisted?: (answer: string) => Value
}

/** Waits for work unless the person stops the command meanwhile. @throws the reason of the signal */
const unlessStopped = async <T>({ signal }: Asking, work: T | Promise<T>): Promise<T> => {
  const { promise, reject } = Promise.withResolvers<never>()
  const stop = (): void => {
    reject(signal.reason as Error)
  }
  signal.throwIfAborted()
  signal.addEventListener('abort', stop)
  try {
    return await Promise.race([work, promise])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

/** Asks until the answer is good. @param tell shows a line */
export const askFor = async <Value>(
  asking: Asking,
  { text, preset, secret = false, judge, insisted }: Question<Value>,
  tell: (line: string) => void,
): Promise<Value> => {
  for (;;) {
    const typed = (await asking.ask(`${text}${preset === undefined ? '' : ` [${preset}]`}: `, { secret })).trim()
    const answer = typed === '' ? (preset ?? '') : typed
    const judged = await unlessStopped(asking, judge(answer))
    if ('value' in judged) return judged.value
    tell(`  ${judged.problem}`)
    if (judged.canInsist === true && insisted !== undefined && (await askYes(asking, '  Write it anyway?')))
      return insisted(answer)
  }
}

/** Asks for yes or no; an empty answer is no. */
export const askYes = async (asking: Asking, text: string): Promise<boolean> =>
  /^y(es)?$/i.test((await asking.ask(`${text} [y/N]: `)).trim())
