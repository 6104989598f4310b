/** Deadlines, turns, and work in the background: what ends in time, what runs one at a time, and what no caller waits for. */
export { type Background, createBackground } from './background.ts'
export { within } from './deadline.ts'
export { createHandover, type Handover } from './handover.ts'
export { oneAtATime } from './one-at-a-time.ts'
