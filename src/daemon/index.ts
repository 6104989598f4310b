/**
 * Composition: builds every part, passes each part what it needs, and opens the listeners. Only the CLI calls it.
 * No other room reads the environment, the clock or randomness by itself.
 */
export { startDaemon } from './daemon.ts'
