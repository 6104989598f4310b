/** Unix sockets for Postgres and Redis. A program connects without a password, and this listener logs in with the user's credential. */
export { openPostgresListener } from './postgres/listener.ts'
export { createRedisListeners } from './redis/listeners.ts'
