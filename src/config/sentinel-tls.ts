import type { Problem } from './problem.ts'
import type { Settings } from './settings.ts'

/**
 * Sentinels that are asked in clear, for a Redis that is reached with TLS: what is on the way to them can name another server as
 * the master, and only its certificate tells then; and it reads the password at the sentinels.
 */
export const sentinelWarnings = ({ cache: { redis } }: Pick<Settings, 'cache'>): Problem[] => {
  if (redis === null || redis.mode !== 'sentinel' || redis.tls === false) return []
  if (redis.sentinel !== undefined && redis.sentinel.tls !== false) return []
  return [
    {
      file: 'deputy.yaml',
      line: 1,
      message:
        'cache.redis is reached with TLS, and its sentinels without: a program on the way to them can name another server as the master, and reads the password at the sentinels.',
      fix: 'Give the sentinels TLS (tls-port, tls-replication yes), and write cache.redis.sentinel: { tls: … } with their authority.',
    },
  ]
}
