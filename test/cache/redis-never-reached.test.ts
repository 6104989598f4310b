import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { createSharedBytes } from '../../src/foundation/redis/redis.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { freePort } from '../support/process.ts'

it('fault 99: a Redis that was never reached has one line in the log', async () => {
  const warnings: string[] = []
  const bytes = createSharedBytes(
    {
      mode: 'single',
      nodes: [{ host: '127.0.0.1', port: await freePort() }],
      master: 'mymaster',
      username: undefined,
      password: undefined,
      tls: false,
      deadline: 250,
    },
    {
      logger: {
        ...silentLogger,
        warn: (_fields: object, message?: string) => {
          warnings.push(message ?? '')
        },
      },
      monotonic: () => performance.now(),
    },
  )
  await expect.poll(() => bytes.problem()).toMatch(/ECONNREFUSED|closed/)
  // It is tried again meanwhile.
  await sleep(300)
  expect(warnings).toHaveLength(1)
  await bytes.close()
})
