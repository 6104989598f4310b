import { createServer as createHttpServer } from 'node:http'
import { createServer, type Server, type Socket } from 'node:net'
import { inspect } from 'node:util'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { watchKeyService } from '../../src/credentials/secret/key-service.ts'
import { SecretCache } from '../../src/credentials/secret/secret-cache.ts'
import { startAwsDouble } from '../doubles/aws.ts'
import { createKmsClient, kmsKey } from '../../src/credentials/secret/aws/kms.ts'
import { createAwsSecrets, createSecretsManagerClient } from '../../src/credentials/secret/aws/secrets-manager.ts'

/** A peer that takes connections and what is sent, and says nothing: what a cut line in the middle of a network looks like. */
let silent: Server
const sockets = new Set<Socket>()
let endpoint: string
/** The standard chain finds these and no others: what another file of this worker has left, or the machine has, is none. */
const onlyCredentials = (given: Readonly<Record<string, string>>): void => {
  for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) vi.stubEnv(name, undefined)
  for (const [name, value] of Object.entries(given)) vi.stubEnv(name, value)
}
const asUser = (): void => {
  onlyCredentials({ AWS_ACCESS_KEY_ID: 'AKIAIOSFODNN7EXAMPLE', AWS_SECRET_ACCESS_KEY: 'not-a-secret' })
}
beforeAll(async () => {
  silent = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined).resume()
  }).listen(0, '127.0.0.1')
  await once(silent, 'listening')
  endpoint = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`
})
beforeEach(asUser)
afterEach(() => {
  vi.unstubAllEnvs()
})
afterAll(async () => {
  for (const socket of sockets) socket.destroy()
  silent.close()
  await once(silent, 'close')
})

const options = () => ({ region: 'eu-west-1', endpoint, timeout: 300 })
const elapsed = async (work: Promise<unknown>): Promise<{ code: unknown; problem: unknown; took: number }> => {
  const began = performance.now()
  const error = (await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )) as { code?: string; facts?: Record<string, unknown> } | undefined
  return { code: error?.code, problem: error?.facts?.['problem'], took: performance.now() - began }
}

describe('fault 90: AWS that takes a request and never answers', () => {
  it('is an outage within the deadline at Secrets Manager, each time it is asked', async () => {
    const client = createSecretsManagerClient(options())
    const backend = createAwsSecrets({ id: 'aws', path: 'deputy/{tenant}/{name}', client })
    for (let at = 0; at < 2; at += 1) {
      const { code, problem, took } = await elapsed(backend.read('acme', 'key'))
      expect([code, problem]).toEqual(['secret_backend_unavailable', 'it did not answer in time'])
      expect(took).toBeLessThan(5000)
    }
    client.destroy()
  })

  it('is an outage where the source of credentials is silent, and over when that answers again', async () => {
    const aws = await startAwsDouble()
    onTestFinished(() => aws.close())
    aws.put('deputy/acme/key', 'v')
    let speaks = false
    const source = createHttpServer((_, response) => {
      if (speaks)
        response.end(
          JSON.stringify({
            AccessKeyId: aws.accessKeyId,
            SecretAccessKey: aws.secretAccessKey,
            Token: 'token',
            Expiration: new Date(Date.now() + 3_600_000).toISOString(),
          }),
        )
    }).listen(0, '127.0.0.1')
    await once(source, 'listening')
    onTestFinished(() => {
      source.close()
      source.closeAllConnections()
    })
    onlyCredentials({
      AWS_CONTAINER_CREDENTIALS_FULL_URI: `http://127.0.0.1:${(source.address() as AddressInfo).port}/`,
      HOME: '/nonexistent',
    })
    const client = createSecretsManagerClient({ region: aws.region, endpoint: aws.url, timeout: 300 })
    onTestFinished(() => {
      client.destroy()
    })
    let time = 0
    const words: string[] = []
    const backend = createAwsSecrets({ id: 'aws', path: 'deputy/{tenant}/{secret}', client })
    const cache = new SecretCache(backend, {
      id: 'aws',
      fresh: 10,
      stale: 60_000,
      limit: 1200,
      clock: { now: () => time },
      monotonic: () => time,
      logger: { ...silentLogger, warn: (fields) => words.push(inspect(fields)) },
    })
    for (let at = 0; at < 2; at += 1) {
      const { code, problem, took } = await elapsed(cache.read('acme', 'key'))
      expect([code, took < 3000], String(problem)).toEqual(['secret_backend_unavailable', true])
    }
    // The SDK's own words are in the log (fault 94).
    expect(words.join()).toMatch(/source of credentials/)
    speaks = true
    expect((await cache.read('acme', 'key')).value.reveal()).toBe('v')
    time += 1000
    vi.stubEnv('AWS_CONTAINER_CREDENTIALS_FULL_URI', 'http://127.0.0.1:1/')
    const another = createSecretsManagerClient({ region: aws.region, endpoint: aws.url, timeout: 300 })
    onTestFinished(() => {
      another.destroy()
    })
    await expect(
      createAwsSecrets({ id: 'aws', path: 'deputy/{tenant}/{secret}', client: another }).read('acme', 'key'),
    ).rejects.toMatchObject({ code: 'secret_backend_unavailable' })
  })

  it('is an outage within the deadline at KMS', async () => {
    const client = createKmsClient(options())
    const key = kmsKey({ id: 'kek', key: 'alias/deputy', client })
    const { code, took } = await elapsed(Promise.resolve(key.wrap(new Uint8Array(32), new Uint8Array(4))))
    expect(code).toBe('secret_backend_unavailable')
    expect(took).toBeLessThan(5000)
    client.destroy()
  })
})

describe('fault 97: AWS that throttles', () => {
  const throttled = (name: string) => ({ status: 400, body: { __type: name, message: 'Rate exceeded' } })
  const aThrottlingAws = async () => {
    const aws = await startAwsDouble()
    onTestFinished(() => aws.close())
    onlyCredentials({ AWS_ACCESS_KEY_ID: aws.accessKeyId, AWS_SECRET_ACCESS_KEY: aws.secretAccessKey })
    return {
      aws,
      settings: { region: aws.region, endpoint: aws.url, timeout: 1000 },
      /** Each of the next requests. */
      throttle: (name: string) => aws.spoil.push(...Array.from({ length: 100 }, () => throttled(name))),
      calm: () => {
        aws.spoil.length = 0
      },
    }
  }

  it('costs no copy and no wait for it, is to be tried again, and is over when AWS answers', async () => {
    const { aws, settings, throttle, calm } = await aThrottlingAws()
    aws.put('deputy/acme/key', 'v')
    const client = createSecretsManagerClient(settings)
    onTestFinished(() => {
      client.destroy()
    })
    let time = 0
    const cache = new SecretCache(createAwsSecrets({ id: 'aws', path: 'deputy/{tenant}/{secret}', client }), {
      id: 'aws',
      fresh: 10,
      stale: 60_000,
      limit: 4000,
      clock: { now: () => time },
      monotonic: () => time,
      logger: silentLogger,
    })
    const read = async (name: string) => (await cache.read('acme', name)).value.reveal()
    // Throttled once: tried again beside the request.
    aws.spoil.push(throttled('ThrottlingException'))
    expect(await read('key')).toBe('v')
    throttle('ThrottlingException')
    time += 1000
    const began = performance.now()
    expect(await read('key')).toBe('v')
    expect(performance.now() - began).toBeLessThan(1500)
    await expect(read('another')).rejects.toMatchObject({
      code: 'secret_backend_unavailable',
      message: expect.stringMatching(/rate-limiting Deputy \(ThrottlingException\)/) as string,
      kind: { retryable: true, status: 503 },
    })
    expect(cache.problem()).toMatch(/rate-limiting/)
    calm()
    await expect.poll(async () => [await read('key'), cache.problem()]).toEqual(['v', undefined])
  })

  it.each(['ThrottlingException', 'LimitExceededException'])(
    'at KMS (%s) loses nothing, and says which it is',
    async (name) => {
      const { aws, settings, throttle, calm } = await aThrottlingAws()
      const client = createKmsClient(settings)
      onTestFinished(() => {
        client.destroy()
      })
      const key = watchKeyService(kmsKey({ id: 'kek', key: aws.keyId, client }), () => performance.now())
      const [dataKey, context] = [new Uint8Array(32).fill(7), new Uint8Array(4)]
      const { id, bytes } = await key.wrap(dataKey, context)
      throttle(name)
      await expect(key.unwrap(id, bytes, context)).rejects.toMatchObject(
        name === 'ThrottlingException'
          ? {
              code: 'key_service_unavailable',
              message: expect.stringMatching(/rate-limiting Deputy.*No data is lost/) as string,
              kind: { retryable: true },
            }
          : { code: 'key_service_refused', message: expect.stringMatching(/LimitExceeded.*No data is lost/) as string },
      )
      calm()
      expect(Buffer.from(await key.unwrap(id, bytes, context))).toEqual(Buffer.from(dataKey))
    },
  )
})
