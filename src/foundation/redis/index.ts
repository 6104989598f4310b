/** The cache that nodes share. It is loaded only where a Redis is configured. */
export { createSharedBytes, type RedisOptions, type SharedBytes } from './redis.ts'
