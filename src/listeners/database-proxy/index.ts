/** Unix sockets for Postgres and Redis. A program connects without a password, and this listener logs in with the user's credential. */
export { openPostgresDoor } from './postgres/door.ts'
export { createRedisDoors } from './redis/doors.ts'
