#!/usr/bin/env node
import { text } from 'node:stream/consumers'
import { run } from './program.ts'

process.exitCode = await run(process.argv.slice(2), {
  out: (output) => { process.stdout.write(output) },
  err: (output) => { process.stderr.write(output) },
  input: () => text(process.stdin),
  isInteractive: process.stderr.isTTY,
  environment: process.env,
  workingFolder: process.cwd(),
})
