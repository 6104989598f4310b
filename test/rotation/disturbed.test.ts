import { afterAll, beforeAll, describe } from 'vitest'
import { describeDisturbedRotation } from '../conformance/disturbed-rotation.ts'
import { findRedis, startRedis, type RedisServer } from '../peers/redis.ts'
import { anAws, aVault } from '../support/vaults.ts'
import { aRedisUser } from './places.ts'

describe.skipIf(!findRedis())('on a real Redis', () => {
  let server: RedisServer
  beforeAll(async () => {
    server = await startRedis(['save ""'])
  })
  afterAll(async () => {
    await server?.close()
  })
  describeDisturbedRotation('a Redis ACL user in Vault', () => aRedisUser(server), aVault)
  describeDisturbedRotation('a Redis ACL user in AWS Secrets Manager', () => aRedisUser(server), anAws)
})
