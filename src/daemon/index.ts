/**
 * Composition: builds every part, passes each part what it needs, and opens the listeners. Only the CLI calls it.
 * Other rooms get the clock, randomness and the environment passed in.
 */
export { type Daemon, startDaemon } from './daemon.ts'
