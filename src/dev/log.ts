/** The daemon's log in a world: a file of the folder. The terminal gets what the author should see. */
import { closeSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { formatProblem, type Problem } from '#config'
import { createLogger, type Logger } from '#foundation/telemetry'
import { DEV_FOLDER } from './state.ts'

/** @param stack closes the file. @param tell gets warnings, errors, and that changed files are in force */
export const openLog = (home: string, stack: AsyncDisposableStack, tell?: (line: string) => void): Logger => {
  const fd = openSync(join(home, DEV_FOLDER, 'deputy.log'), 'a', 0o600)
  stack.defer(() => {
    closeSync(fd)
  })
  const file = createLogger({ level: 'info', destination: { write: (line: string) => void writeSync(fd, line) } })
  const show = (fields: object, message: string): void => {
    tell?.(message)
    // A reload that was rejected says where the files are wrong.
    const { problems = [] } = fields as { problems?: readonly Problem[] }
    for (const problem of problems) tell?.(formatProblem(problem))
  }
  return {
    debug: (fields, message) => {
      file.debug(fields, message)
    },
    info: (fields, message) => {
      file.info(fields, message)
      if (message === 'configuration reloaded') tell?.(message)
    },
    warn: (fields, message) => {
      file.warn(fields, message)
      show(fields, message)
    },
    error: (fields, message) => {
      file.error(fields, message)
      show(fields, message)
    },
  }
}
