/** Runs the CLI in this process, with a person at its terminal who answers its questions. */
import { PassThrough, Writable } from 'node:stream'
import { askOn } from '../../src/cli/asking.ts'
import type { Terminal } from '../../src/cli/terminal.ts'
import type { Ran } from './process.ts'

/** A key that a person presses in place of an answer. */
export const CTRL_C = '\u0003'
export const CTRL_D = '\u0004'

export interface Answered extends Ran {
  /** What the terminal showed of questions and of what was typed. */
  readonly shown: string
}

/** @param answers typed one after the other, each when it is asked for; after the last one the input ends */
export const runAnswering = async (
  home: string,
  args: readonly string[],
  answers: readonly string[],
): Promise<Answered> => {
  const { run } = await import('../../src/cli/program.ts')
  let [out, err, shown] = ['', '', '']
  const left = [...answers]
  const input = new PassThrough()
  const output = new Writable({
    write(chunk: Buffer, _encoding, done) {
      const before = shown
      shown += chunk.toString('utf8')
      // Readline puts the cursor behind a question after it has written it.
      if (before.endsWith(': ') && /^\S\[\d{2,}G$/.test(chunk.toString('utf8'))) {
        const next = left.shift()
        setImmediate(() => {
          if (next === undefined) input.end()
          else input.write(next === CTRL_C || next === CTRL_D ? next : `${next}\r`)
        })
      }
      done()
    },
  })
  const terminal: Terminal = {
    out: (text) => {
      out += text
    },
    err: (text) => {
      err += text
    },
    input: () => Promise.resolve(new Uint8Array()),
    isInteractive: true,
    openQuestions: () => askOn({ input, output }),
    environment: {},
    workingFolder: home,
  }
  return { code: await run([...args, '--home', home], terminal), out, err, shown }
}
