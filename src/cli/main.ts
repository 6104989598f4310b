#!/usr/bin/env node
import { writeSync } from 'node:fs'
import { buffer } from 'node:stream/consumers'
import { isatty } from 'node:tty'
import { run } from './program.ts'

/** Node makes a pipe non-blocking when it opens it as a stream, also for a command that `deputy exec` shares it with. */
const writeError = (output: string): void => {
  try {
    writeSync(2, output)
  } catch {
    process.stderr.write(output)
  }
}

process.exitCode = await run(process.argv.slice(2), {
  out: (output) => {
    process.stdout.write(output)
  },
  err: writeError,
  input: () => buffer(process.stdin),
  isInteractive: isatty(2),
  environment: process.env,
  workingFolder: process.cwd(),
})
