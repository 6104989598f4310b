#!/usr/bin/env node
import { writeSync } from 'node:fs'
import { buffer } from 'node:stream/consumers'
import { isatty } from 'node:tty'
import { askOn } from './asking.ts'
import { commandName, run } from './program.ts'

/**
 * Node makes a pipe non-blocking when it opens it as a stream, also for a command that `deputy exec` shares it with.
 */
const writeError = (output: string): void => {
  try {
    writeSync(2, output)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPIPE') process.stderr.write(output)
  }
}

const argv = process.argv.slice(2)

/** Commands that continue when their output is not read: it is not their purpose. */
const LASTING: readonly (string | undefined)[] = ['serve', 'exec', 'dev']

/** The exit code of a command that SIGPIPE has ended, as in a shell: 128 and the number of the signal. */
const PIPE_CLOSED = 141

// Node ignores SIGPIPE, and would throw the error that it receives in its place (`deputy audit export | head`).
const onClosedPipe = (error: NodeJS.ErrnoException): void => {
  if (error.code !== 'EPIPE') throw error
  if (!LASTING.includes(commandName(argv))) process.exit(PIPE_CLOSED)
}
process.stdout.on('error', onClosedPipe)
process.stderr.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
})

process.exitCode = await run(argv, {
  out: (output) => {
    process.stdout.write(output)
  },
  write: (chunk) =>
    new Promise((resolve) => {
      process.stdout.write(chunk, () => {
        resolve()
      })
    }),
  err: writeError,
  input: () => buffer(process.stdin),
  isInteractive: isatty(2),
  // With output elsewhere, as in the scripts of packages, a question would stay without an answer.
  ...(isatty(0) && isatty(1) && isatty(2)
    ? { openQuestions: () => askOn({ input: process.stdin, output: process.stderr }) }
    : {}),
  environment: process.env,
  workingFolder: process.cwd(),
})

/**
 * What the daemon has begun at peers that do not answer, such as a last export, must not keep its process after the end
 * (ms).
 */
const LINGER_MS = 500
if (['serve', 'dev'].includes(commandName(argv) ?? ''))
  setTimeout(() => {
    process.exit()
  }, LINGER_MS).unref()
