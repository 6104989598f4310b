/** Real targets with an account to rotate, each behind a line that can be cut. */
import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { Client } from 'pg'
import { createSystemRandom, systemClock } from '../../src/clock.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { keyFromFile } from '../../src/foundation/crypto/key-encryption-key.ts'
import { SigningKeys } from '../../src/foundation/keys/signing-keys.ts'
import { createEgress } from '../../src/foundation/outbound/fetch.ts'
import type { OwnKeys } from '../../src/config/rotation-policy.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { createOwnKeys } from '../../src/daemon/own-keys.ts'
import { createDeputyKeysRotator } from '../../src/flows/rotation/rotators/deputy-keys.ts'
import { createOAuthClientRotator } from '../../src/flows/rotation/rotators/oauth-client.ts'
import { createPostgresRotator } from '../../src/flows/rotation/rotators/postgres.ts'
import { createRedisRotator } from '../../src/flows/rotation/rotators/redis.ts'
import { createVaultStaticRoleRotator } from '../../src/flows/rotation/rotators/vault-static-role.ts'
import { createWebhookRotator } from '../../src/flows/rotation/rotators/webhook.ts'
import { signatureOf } from '../../src/flows/rotation/signature.ts'
import { createVaultDatabase } from '../../src/credentials/secret/vault/database.ts'
import type { RotatorPlace } from '../conformance/rotator.ts'
import { startVaultDouble } from '../doubles/vault.ts'
import { startOpenIdServer } from '../peers/openid-server.ts'
import type { PostgresServer } from '../peers/postgres.ts'
import { askRedis, type RedisServer } from '../peers/redis.ts'
import { startGround } from '../support/keyring.ts'
import { someSigningKeys } from '../support/signing-keys.ts'
import { startTcpProxy } from '../support/tcp-proxy.ts'
import { connectToVault } from '../support/vaults.ts'

const random = createSystemRandom()
const loopback = () => createEgress({ allowLoopback: true, allowPrivate: [], timeout: 1000 })
const login = (username: string, password: string): Secret => new Secret(JSON.stringify({ username, password }))
let count = 0

export const aPostgresRole = async (
  server: PostgresServer,
  strategy: 'single' | 'alternating',
): Promise<RotatorPlace> => {
  const database = await server.createDatabase()
  const admin = new Client({
    host: '127.0.0.1',
    port: server.port,
    user: 'deputy',
    password: server.password,
    database,
  })
  await admin.connect()
  const roles = [`app_${(count += 1)}_a`, `app_${count}_b`].slice(0, strategy === 'single' ? 1 : 2)
  for (const role of roles) await admin.query(`create role ${role} login`)
  await admin.query(`alter role ${roles[0]} password 'the-first'`)
  const proxy = await startTcpProxy(server.port)
  return {
    rotator: createPostgresRotator(
      {
        rotator: 'postgres',
        host: '127.0.0.1',
        port: proxy.port,
        database,
        tls: false,
        strategy,
        roles,
        admin: { secret: 'admin', backend: 'embedded' },
      },
      {
        admin: () => Promise.resolve(login('deputy', server.password)),
        tls: () => Promise.resolve(false),
        random,
        timeout: 1000,
      },
    ),
    current: login(roles[0]!, 'the-first'),
    cut() {
      proxy.cut()
    },
    async removeAccount() {
      for (const role of roles) await admin.query(`drop role ${role}`)
    },
    async close() {
      await admin.end()
      await proxy.close()
    },
  }
}

export const aRedisUser = async (server: RedisServer): Promise<RotatorPlace> => {
  const user = `app-${(count += 1)}`
  const adminName = `admin-${count}`
  await askRedis(server.port, async (client) => {
    await client.call('ACL', 'SETUSER', user, 'on', '>the-first', '~app:*', '+get')
    await client.call('ACL', 'SETUSER', adminName, 'on', '>the-admin', '+acl', '+config')
  })
  const proxy = await startTcpProxy(server.port)
  return {
    rotator: createRedisRotator(
      {
        rotator: 'redis',
        host: '127.0.0.1',
        port: proxy.port,
        tls: false,
        user,
        admin: { secret: 'admin', backend: 'embedded' },
      },
      {
        admin: () => Promise.resolve(login(adminName, 'the-admin')),
        tls: () => Promise.resolve(false),
        random,
        timeout: 1000,
      },
    ),
    current: login(user, 'the-first'),
    cut() {
      proxy.cut()
    },
    async removeAccount() {
      await askRedis(server.port, (client) => client.call('ACL', 'DELUSER', user))
    },
    close: () => proxy.close(),
  }
}

/** A client at a real oidc-provider, whose registration policy issues a new secret with each update (RFC 7592 section 2.2 lets it). */
export const anOAuthClient = async (
  given: { keepsSecrets?: boolean; rotatesTokens?: boolean } = {},
): Promise<RotatorPlace & { token(): string }> => {
  const server = await startOpenIdServer({
    title: 'A service',
    users: {},
    configuration: {
      features: {
        registration: {
          enabled: true,
          initialAccessToken: true,
          policies: {
            renew: (context: { method: string }, properties: Record<string, unknown>) => {
              if (context.method === 'PUT' && given.keepsSecrets !== true) properties['client_secret'] = randomUUID()
            },
          },
        } as never,
        registrationManagement: { enabled: true, rotateRegistrationAccessToken: given.rotatesTokens === true },
      },
    },
  })
  const initial = await new server.provider.InitialAccessToken({ policies: ['renew'] } as never).save()
  const registered = (await (
    await fetch(`${server.url}/reg`, {
      method: 'POST',
      headers: { authorization: `Bearer ${initial}`, 'content-type': 'application/json' },
      body: JSON.stringify({
        redirect_uris: ['https://deputy.example/callback'],
        grant_types: ['authorization_code', 'refresh_token'],
        token_endpoint_auth_method: 'client_secret_basic',
      }),
    })
  ).json()) as Record<string, string>
  const proxy = await startTcpProxy(Number(new URL(server.url).port))
  const through = (path: string): string => `http://127.0.0.1:${proxy.port}${path}`
  const egress = loopback()
  let token = registered['registration_access_token']!
  const { pathname } = new URL(registered['registration_client_uri']!)
  return {
    token: () => token,
    rotator: createOAuthClientRotator(
      {
        rotator: 'oauth_client',
        registration: through(pathname),
        token: { secret: 'token' },
        token_endpoint: through('/token'),
        client: registered['client_id']!,
        authentication: 'client_secret_basic',
      },
      {
        token: () => Promise.resolve(new Secret(token)),
        keepToken: (next) => {
          token = next.reveal()
          return Promise.resolve()
        },
        egress,
      },
    ),
    current: new Secret(registered['client_secret']!),
    cut() {
      proxy.cut()
    },
    async removeAccount() {
      await fetch(`${server.url}${pathname}`, { method: 'DELETE', headers: { authorization: `Bearer ${token}` } })
    },
    async close() {
      await proxy.close()
      await egress.close()
      await server.close()
    },
  }
}

export const aVaultStaticRole = async (): Promise<RotatorPlace> => {
  const vault = await startVaultDouble()
  const { session, close } = connectToVault(vault)
  return {
    rotator: createVaultStaticRoleRotator({
      backend: 'vault',
      role: 'app',
      dynamic: createVaultDatabase({
        id: 'vault',
        mount: 'database',
        session,
        clock: systemClock,
        making: 5000,
      }),
    }),
    current: login('app', 'the-first'),
    cut() {
      vault.sealed = true
    },
    removeAccount() {
      vault.removeStaticRole('app')
      return Promise.resolve()
    },
    async close() {
      await close()
      await vault.close()
    },
  }
}

/** A service of the security team's: it accepts a list of values, and believes nobody without a signature of this minute. */
export const aWebhook = async (): Promise<RotatorPlace & { readonly refused: string[] }> => {
  let accepted: string[] | undefined = ['the-first']
  let isCut = false
  const refused: string[] = []
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => {
      body += chunk.toString('utf8')
    })
    request.on('end', () => {
      if (isCut) {
        response.destroy()
        return
      }
      const signature = String(request.headers['deputy-signature'])
      const seconds = Number(/^t=(\d+),/.exec(signature)?.[1])
      if (signature !== signatureOf('webhook-key', seconds, body) || Math.abs(Date.now() / 1000 - seconds) > 60) {
        refused.push(signature)
        response.writeHead(401).end()
        return
      }
      const order = JSON.parse(body) as { step: string; current?: string; next?: string; old?: string }
      if (accepted === undefined) {
        response.writeHead(order.step === 'next' ? 204 : 404).end()
        return
      }
      if (order.step === 'apply') accepted = [...new Set([...accepted, order.next!])]
      if (order.step === 'retire') accepted = accepted.filter((value) => value !== order.old)
      response.writeHead(order.step === 'login' && !accepted.includes(order.current!) ? 409 : 204).end()
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const egress = loopback()
  const rotator = createWebhookRotator(
    {
      rotator: 'webhook',
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/rotate`,
      key: { env: 'KEY' },
      keeps_old: true,
    },
    {
      secret: { tenant: 'acme', backend: 'embedded', secret: 'key' },
      key: () => Promise.resolve(new Secret('webhook-key')),
      egress,
      clock: { now: () => Date.now() },
      random,
    },
  )
  return {
    refused,
    current: new Secret('the-first'),
    rotator: {
      ...rotator,
      check: () =>
        accepted === undefined ? Promise.reject(new Error('the target does not exist')) : Promise.resolve(),
    },
    cut() {
      isCut = true
    },
    removeAccount() {
      accepted = undefined
      return Promise.resolve()
    },
    async close() {
      await egress.close()
      await new Promise<void>((resolve) => {
        server.close(() => {
          resolve()
        })
        server.closeAllConnections()
      })
    },
  }
}

/** Deputy's own keys on a store of their own. */
export const ownKeys = (name: OwnKeys) => async (): Promise<RotatorPlace> => {
  const keysAndStore = await startGround()
  const path = join(keysAndStore.folder, 'kek')
  await writeFile(path, keysAndStore.kekText, { mode: 0o600 })
  await keysAndStore.envelope.seal({ tenant: 'acme', kind: 'grant', id: 'g' }, new Secret('text'))
  const clock = { now: () => Date.now() }
  // Only its own rotation needs keys that are kept; to make them costs more than the rotation of another key.
  const signingKeys =
    name === 'signing-keys'
      ? await SigningKeys.open({
          store: keysAndStore.store.signingKeys,
          envelope: keysAndStore.envelope,
          clock,
          lifetime: 86_400_000,
          longestToken: 3_600_000,
        })
      : await someSigningKeys()
  let isAway = false
  const keys = createOwnKeys({
    keysAndStore: {
      envelope: keysAndStore.envelope,
      store: keysAndStore.store,
      signingKeys,
      alone: (work) => work(),
      readKek: () => (isAway ? Promise.reject(new Error('the file does not exist')) : keyFromFile(path, random)),
    },
    settings: { kek: { file: path } },
    home: '/',
    clock,
    random,
    logger: silentLogger,
  })
  const away = () => Promise.reject(new Error('the target does not exist'))
  return {
    current: new Secret(await keys.current(name)),
    rotator: createDeputyKeysRotator(name, {
      ...keys,
      current: (each) => (isAway ? away() : keys.current(each)),
      isKnown: (each, id) => (isAway ? away() : keys.isKnown(each, id)),
      canRotate: () => !isAway,
    }),
    cut() {
      isAway = true
    },
    removeAccount() {
      isAway = true
      return Promise.resolve()
    },
    close: () => keysAndStore.close(),
  }
}
