import {
  CreateAliasCommand,
  CreateKeyCommand,
  DisableKeyCommand,
  KMSClient,
  UpdateAliasCommand,
} from '@aws-sdk/client-kms'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createSystemRandom, systemClock } from '../../src/clock.ts'
import { keyEncryptionSchema } from '../../src/config/key-encryption.ts'
import { Keyring } from '../../src/foundation/crypto/keyring.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { forAdmins, type DeputyError } from '../../src/errors.ts'
import { openKeyEncryption, type KeyEncryption } from '../../src/daemon/foundation/key-encryption.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { kmsKey } from '../../src/credentials/secret/aws/kms.ts'
import { watchKeyService } from '../../src/credentials/secret/key-service.ts'
import { describeKeyEncryptionKey } from '../conformance/key-encryption-key.ts'
import { findMoto, startMoto, type Moto } from '../peers/moto.ts'
import { findOpenBao, startOpenBao, type OpenBao } from '../peers/openbao.ts'

const [bao, moto] = [findOpenBao(), findMoto()]
const random = createSystemRandom()
const at = { tenant: 'acme', kind: 'grant', id: 'g' }

const refusalOf = async (work: Promise<unknown>): Promise<DeputyError> => {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown as DeputyError,
  )
  expect(error?.code).toBe('key_service_refused')
  return error!
}

describe.skipIf(bao === undefined)('transit of a real OpenBao', () => {
  let folder: string
  const servers: OpenBao[] = []
  const opened: KeyEncryption[] = []
  const aServer = async (): Promise<OpenBao> => {
    const server = await startOpenBao(bao!)
    servers.push(server)
    await server.must('POST', 'sys/mounts/transit', { type: 'transit' })
    await server.must('POST', 'transit/keys/deputy', {})
    return server
  }
  const settingsOf = (server: OpenBao, variable: string) =>
    keyEncryptionSchema.parse({ vault: { address: server.url, login: { token: { env: variable } }, key: 'deputy' } })
  const keyring = async (...indexes: number[]) => {
    const [current, ...earlier] = indexes.map((index) => settingsOf(servers[index]!, `TOKEN_${index}`))
    const keys = await openKeyEncryption(current!, earlier, {
      home: '/',
      environment: Object.fromEntries(servers.map(({ rootToken }, index) => [`TOKEN_${index}`, rootToken])),
      clock: systemClock,
      monotonic: () => performance.now(),
      logger: silentLogger,
      random,
    })
    opened.push(keys)
    return { keys, envelope: await Keyring.open({ folder, kek: await keys.read(), random }) }
  }
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'deputy-keys-'))
    await aServer()
  })
  afterAll(async () => {
    for (const keys of opened) await keys.close()
    for (const server of servers) await server.close()
    await rm(folder, { recursive: true, force: true })
  })

  describeKeyEncryptionKey('a key of a real OpenBao', async () => {
    const { keys } = await keyring(0)
    return { key: await keys.read(), close: () => Promise.resolve() }
  })

  it('fault 49, fault 53: what it refuses is told in its own words, never as lost data, and stands in the status', async () => {
    const [server] = servers as [OpenBao]
    const sealed = await (await keyring(0)).envelope.seal(at, new Secret('text'))
    await server.must('POST', 'transit/keys/deputy/rotate')
    await server.must('POST', 'transit/keys/deputy/config', { min_decryption_version: 2 })
    const old = await keyring(0)
    const error = await refusalOf(old.envelope.open(at, sealed))
    expect(forAdmins(error)).toMatch(/No data is lost.*too old/)
    expect(error.message).not.toMatch(/too old/)
    expect(await old.keys.status()).toMatch(/too old/)
    await server.must('POST', 'transit/keys/deputy/config', { min_decryption_version: 1 })
    expect((await old.envelope.open(at, sealed)).reveal()).toBe('text')
    expect(await old.keys.status()).toBe('ok')
  })

  it('fault 50: data keys go over to another OpenBao whose mount and key have the same names', async () => {
    const sealed = await (await keyring(0)).envelope.seal(at, new Secret('text'))
    await aServer()
    const both = await keyring(1, 0)
    expect((await both.envelope.open(at, sealed)).reveal()).toBe('text')
    expect(await both.envelope.rewrap(await both.keys.read())).toBe(1)
    expect((await (await keyring(1)).envelope.open(at, sealed)).reveal()).toBe('text')
  })
})

describe.skipIf(moto === undefined)('KMS of a real moto', () => {
  let server: Moto
  let client: KMSClient
  let folder: string
  const aKey = async (): Promise<string> => (await client.send(new CreateKeyCommand({}))).KeyMetadata!.KeyId!
  beforeAll(async () => {
    server = await startMoto(moto!)
    folder = await mkdtemp(join(tmpdir(), 'deputy-keys-'))
    client = new KMSClient({
      region: 'eu-central-1',
      endpoint: server.url,
      credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
    })
  })
  afterAll(async () => {
    client?.destroy()
    await server?.close()
    await rm(folder, { recursive: true, force: true })
  })
  const keyring = (key: string) =>
    Keyring.open({
      folder,
      kek: watchKeyService(kmsKey({ id: 'kek', key, client }), () => performance.now()),
      random,
    })

  describeKeyEncryptionKey('a key of a real moto', async () => ({
    key: kmsKey({ id: 'kek', key: await aKey(), client }),
    close: () => Promise.resolve(),
  }))

  it('fault 92, fault 93: what an alias wrapped opens after it was moved; a disabled key is told in the words of KMS', async () => {
    const [first, second] = [await aKey(), await aKey()]
    await client.send(new CreateAliasCommand({ AliasName: 'alias/deputy', TargetKeyId: first }))
    const sealed = await (await keyring('alias/deputy')).seal(at, new Secret('text'))
    await client.send(new UpdateAliasCommand({ AliasName: 'alias/deputy', TargetKeyId: second }))
    const moved = await keyring('alias/deputy')
    expect((await moved.open(at, sealed)).reveal()).toBe('text')
    expect(await moved.rewrap(kmsKey({ id: 'kek', key: 'alias/deputy', client }))).toBe(1)
    await client.send(new DisableKeyCommand({ KeyId: second }))
    const error = await (
      await keyring('alias/deputy')
    )
      .seal({ ...at, tenant: 'globex' }, new Secret('t'))
      .catch((thrown: unknown) => thrown as DeputyError)
    // moto encrypts under a key that is disabled; AWS does not.
    if (error instanceof Error) expect(forAdmins(error)).toMatch(/disabled/i)
  })
})
