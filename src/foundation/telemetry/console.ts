import { inspect } from 'node:util'
import type { Logger } from './logger.ts'

const METHODS = ['log', 'info', 'warn', 'error', 'debug', 'trace'] as const

/** What libraries write to the console, and Node's own warnings, become records of the log: each line of the output is one. */
export const consoleToLog = (logger: Logger): void => {
  for (const method of METHODS)
    console[method] = (...words: unknown[]) => {
      const text = words.map((word) => (typeof word === 'string' ? word : inspect(word, { depth: 1 }))).join(' ')
      logger.warn({ source: 'library' }, text)
    }
  process.removeAllListeners('warning').on('warning', ({ name, message }) => {
    logger.warn({ source: 'library', name }, message)
  })
}
