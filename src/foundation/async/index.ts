/** Deadlines and turns: work that must end in time, and work of which one piece runs at a time. */
export { within } from './deadline.ts'
export { oneAtATime } from './one-at-a-time.ts'
