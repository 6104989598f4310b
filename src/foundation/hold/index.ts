/** Keeps a folder to one process: the thread of the database and the one of the audit log take a hold each. It imports no other room. */
export { isHeld, takeHold } from './hold.ts'
