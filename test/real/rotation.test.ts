import { afterAll, beforeAll, describe } from 'vitest'
import { createEgress } from '../../src/foundation/outbound/fetch.ts'
import { createAwsSecrets } from '../../src/credentials/secret/aws/secrets-manager.ts'
import { createVaultWire } from '../../src/credentials/secret/vault/client.ts'
import { createVaultSecrets } from '../../src/credentials/secret/vault/kv.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { describeDisturbedRotation, type SharedBackend } from '../conformance/disturbed-rotation.ts'
import { findMoto, secretsInMoto, startMoto, type Moto } from '../peers/moto.ts'
import { findOpenBao, startOpenBao, type OpenBao } from '../peers/openbao.ts'
import { findPostgres, startPostgres, type PostgresServer } from '../peers/postgres.ts'
import { findRedis, startRedis, type RedisServer } from '../peers/redis.ts'
import { aPostgresRole, aRedisUser } from '../rotation/places.ts'

let count = 0

/** KV version 2 of a real OpenBao, in a folder of its own. */
const inOpenBao = (bao: OpenBao): SharedBackend => {
  const folder = `test-${(count += 1)}`
  const egress = createEgress({ allowLoopback: true, allowPrivate: [], timeout: 5000 })
  const send = createVaultWire({ id: 'vault', address: bao.url, egress, timeout: 5000 })
  const token = new Secret(bao.rootToken)
  const at = (verb: string, tenant: string, name: string): string => `secret/${verb}/${folder}/${tenant}/${name}`
  return {
    backend: createVaultSecrets({
      id: 'vault',
      mount: 'secret',
      path: `${folder}/{tenant}/{secret}`,
      field: 'value',
      session: { ask: (request) => send(request, token) },
    }),
    async put(tenant, name, value) {
      await bao.must('POST', at('data', tenant, name), { data: { value } })
    },
    // https://openbao.org/api-docs/secret/kv/kv-v2/#patch-secret
    async patch(tenant, name, fields) {
      const response = await fetch(`${bao.url}/v1/${at('data', tenant, name)}`, {
        method: 'PATCH',
        headers: { 'x-vault-token': bao.rootToken, 'content-type': 'application/merge-patch+json' },
        body: JSON.stringify({ data: fields }),
      })
      if (!response.ok) throw new Error(`the patch was answered with ${response.status}`)
      await response.body?.cancel()
    },
    async keepOne(tenant, name) {
      await bao.must('POST', at('metadata', tenant, name), { max_versions: 1 })
    },
    close: () => egress.close(),
  }
}

/** Secrets Manager as moto has it, under a prefix of its own. */
const inMoto = (moto: Moto): SharedBackend => {
  const folder = `test-${(count += 1)}`
  const { client, put, close } = secretsInMoto(moto)
  return {
    backend: createAwsSecrets({ id: 'aws', path: `${folder}/{tenant}/{secret}`, client }),
    put: (tenant, name, value) => put(`${folder}/${tenant}/${name}`, value),
    close() {
      close()
      return Promise.resolve()
    },
  }
}

/** As `inMoto`, where the secret is one field of an object in which others write as well. */
const inMotoField = (moto: Moto): SharedBackend => {
  const folder = `test-${(count += 1)}`
  const { client, put, text, close } = secretsInMoto(moto)
  const idOf = (tenant: string, name: string) => `${folder}/${tenant}/${name}`
  return {
    backend: createAwsSecrets({ id: 'aws', path: `${folder}/{tenant}/{secret}`, field: 'value', client }),
    put: (tenant, name, value) => put(idOf(tenant, name), JSON.stringify({ host: 'db', value })),
    async patch(tenant, name, fields) {
      const now = JSON.parse(await text(idOf(tenant, name))) as object
      await put(idOf(tenant, name), JSON.stringify({ ...now, ...fields }))
    },
    close() {
      close()
      return Promise.resolve()
    },
  }
}

const [bin, bao, moto] = [findPostgres(), findOpenBao(), findMoto()]
describe.skipIf(bin === undefined || !findRedis())('on a real Postgres and a real Redis', () => {
  let postgres: PostgresServer
  let redis: RedisServer
  beforeAll(async () => {
    postgres = await startPostgres(bin!)
    redis = await startRedis(['save ""'])
  })
  afterAll(async () => {
    await postgres?.close()
    await redis?.close()
  })
  const targets = {
    'two PostgreSQL roles': () => aPostgresRole(postgres, 'alternating'),
    'a Redis ACL user': () => aRedisUser(redis),
  }

  describe.skipIf(bao === undefined)('with secrets in a real OpenBao', () => {
    let server: OpenBao
    beforeAll(async () => {
      server = await startOpenBao(bao!)
    })
    afterAll(async () => {
      await server?.close()
    })
    for (const [name, start] of Object.entries(targets))
      describeDisturbedRotation(name, start, () => Promise.resolve(inOpenBao(server)))
  })

  describe.skipIf(moto === undefined)('with secrets in Secrets Manager of a real moto', () => {
    let server: Moto
    beforeAll(async () => {
      server = await startMoto(moto!)
    })
    afterAll(async () => {
      await server?.close()
    })
    for (const [name, start] of Object.entries(targets))
      describeDisturbedRotation(name, start, () => Promise.resolve(inMoto(server)))
    describeDisturbedRotation('one field, two PostgreSQL roles', targets['two PostgreSQL roles'], () =>
      Promise.resolve(inMotoField(server)),
    )
  })
})
