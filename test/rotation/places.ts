/** Real targets with an account to rotate, each behind a line that can be cut. */
import { Client } from 'pg'
import { createSystemRandom } from '../../src/clock.ts'
import { Secret } from '../../src/crypto/secret.ts'
import { createPostgresRotator } from '../../src/rotation/rotators/postgres.ts'
import { createRedisRotator } from '../../src/rotation/rotators/redis.ts'
import type { RotatorPlace } from '../conformance/rotator.ts'
import type { PostgresServer } from '../peers/postgres.ts'
import { askRedis, type RedisServer } from '../peers/redis.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'

const random = createSystemRandom()
const login = (username: string, password: string): Secret => new Secret(JSON.stringify({ username, password }))
let count = 0

export const aPostgresRole = async (server: PostgresServer, strategy: 'single' | 'alternating'): Promise<RotatorPlace> => {
  const database = await server.createDatabase()
  const admin = new Client({ host: '127.0.0.1', port: server.port, user: 'deputy', password: server.password, database })
  await admin.connect()
  const roles = [`app_${count += 1}_a`, `app_${count}_b`].slice(0, strategy === 'single' ? 1 : 2)
  for (const role of roles) await admin.query(`create role ${role} login`)
  await admin.query(`alter role ${roles[0]} password 'the-first'`)
  const proxy = await startTcpProxy(server.port)
  return {
    rotator: createPostgresRotator({ rotator: 'postgres', host: '127.0.0.1', port: proxy.port, database, tls: false, strategy, roles, admin: { secret: 'admin', backend: 'embedded' } }, { admin: () => Promise.resolve(login('deputy', server.password)), tls: () => Promise.resolve(false), random, timeout: 1000 }),
    current: login(roles[0]!, 'the-first'),
    cut() { proxy.cut() },
    async removeAccount() { for (const role of roles) await admin.query(`drop role ${role}`) },
    async close() { await admin.end(); await proxy.close() },
  }
}

export const aRedisUser = async (server: RedisServer): Promise<RotatorPlace> => {
  const user = `app-${count += 1}`
  const adminName = `admin-${count}`
  await askRedis(server.port, async (client) => {
    await client.call('ACL', 'SETUSER', user, 'on', '>the-first', '~app:*', '+get')
    await client.call('ACL', 'SETUSER', adminName, 'on', '>the-admin', '+acl', '+config')
  })
  const proxy = await startTcpProxy(server.port)
  return {
    rotator: createRedisRotator({ rotator: 'redis', host: '127.0.0.1', port: proxy.port, tls: false, user, admin: { secret: 'admin', backend: 'embedded' } }, { admin: () => Promise.resolve(login(adminName, 'the-admin')), tls: () => Promise.resolve(false), random, timeout: 1000 }),
    current: login(user, 'the-first'),
    cut() { proxy.cut() },
    async removeAccount() { await askRedis(server.port, (client) => client.call('ACL', 'DELUSER', user)) },
    close: () => proxy.close(),
  }
}
