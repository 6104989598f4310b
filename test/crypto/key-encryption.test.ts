import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { KMSClient } from '@aws-sdk/client-kms'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createSystemRandom, systemClock } from '../../src/clock.ts'
import { keyEncryptionSchema } from '../../src/config/key-encryption.ts'
import { keyFromText, newKeyText, withEarlierKeys } from '../../src/foundation/crypto/key-encryption-key.ts'
import { Keyring } from '../../src/foundation/crypto/keyring.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { forAdmins, type DeputyError } from '../../src/errors.ts'
import { openKeyEncryption } from '../../src/daemon/foundation/key-encryption.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { kmsKey } from '../../src/credentials/secret/aws/kms.ts'
import { watchKeyService } from '../../src/credentials/secret/key-service.ts'
import { describeKeyEncryptionKey } from '../conformance/key-encryption-key.ts'
import { startAwsDouble, type AwsDouble } from '../doubles/aws.ts'
import { startVaultDouble, type VaultDouble } from '../doubles/vault.ts'
import { startGround, type KeysAndStore } from '../support/keyring.ts'

const random = createSystemRandom()
const around = (vault?: VaultDouble) => ({
  home: '/',
  environment: { TOKEN: vault?.rootToken, KEK: newKeyText(random) },
  clock: systemClock,
  monotonic: () => performance.now(),
  logger: silentLogger,
  random,
})
const inVault = (vault: VaultDouble, variable = 'TOKEN') =>
  keyEncryptionSchema.parse({
    vault: { address: vault.url, login: { token: { env: variable } }, key: 'deputy', timeout: '500ms' },
  })

describeKeyEncryptionKey('one of our own', () =>
  Promise.resolve({ key: keyFromText(newKeyText(random), 'test', random), close: () => Promise.resolve() }),
)
describeKeyEncryptionKey('one in Vault', async () => {
  const vault = await startVaultDouble()
  const keys = await openKeyEncryption(inVault(vault), [], around(vault))
  return {
    key: await keys.read(),
    async close() {
      await keys.close()
      await vault.close()
    },
  }
})
describeKeyEncryptionKey('one in AWS KMS', async () => {
  const aws = await startAwsDouble()
  const client = new KMSClient({
    region: aws.region,
    endpoint: aws.url,
    credentials: { accessKeyId: aws.accessKeyId, secretAccessKey: aws.secretAccessKey },
  })
  return {
    key: kmsKey({ id: 'kek', key: aws.keyId, client }),
    async close() {
      client.destroy()
      await aws.close()
    },
  }
})

describe('a keyring whose key-encryption key is elsewhere', () => {
  let vault: VaultDouble
  let keysAndStore: KeysAndStore
  beforeEach(async () => {
    vault = await startVaultDouble()
    keysAndStore = await startGround()
  })
  afterEach(async () => {
    await keysAndStore.close()
    await vault.close()
  })
  const at = { tenant: 'acme', kind: 'grant', id: 'g' }
  const folder = (): string => join(keysAndStore.folder, 'keys')
  const files = async (): Promise<Record<string, { kek: string; wrapped: string }>> =>
    Object.fromEntries(
      await Promise.all(
        (await readdir(folder())).map(async (file) => [file, JSON.parse(await readFile(join(folder(), file), 'utf8'))]),
      ),
    )
  const openWith = async (
    settings: Parameters<typeof openKeyEncryption>[0],
    earlier: Parameters<typeof openKeyEncryption>[1] = [],
  ) => {
    const keys = await openKeyEncryption(settings, earlier, {
      ...around(vault),
      environment: { TOKEN: vault.rootToken, KEK: keysAndStore.kekText },
    })
    return { keys, envelope: await Keyring.open({ folder: folder(), kek: await keys.read(), random }) }
  }

  it('promise 8: goes over to another provider by wrapping anew, and no ciphertext changes', async () => {
    const sealed = await keysAndStore.envelope.seal(at, new Secret('text'))
    await keysAndStore.envelope.seal({ ...at, tenant: 'globex' }, new Secret('text'))
    const both = await openWith(inVault(vault), [{ env: 'KEK' }])
    expect((await both.envelope.open(at, sealed)).reveal()).toBe('text')
    expect(await both.envelope.rewrap(await both.keys.read())).toBe(2)
    await both.keys.close()
    expect(new Set(Object.values(await files()).map(({ kek }) => kek))).toEqual(new Set(['vault:transit/deputy']))
    const alone = await openWith(inVault(vault))
    expect((await alone.envelope.open(at, sealed)).reveal()).toBe('text')
    await alone.keys.close()
    const before = await openWith({ env: 'KEK' })
    // No data is lost: the key that wrapped it is not named.
    await expect(before.envelope.open(at, sealed)).rejects.toMatchObject({
      code: 'data_key_unavailable',
      facts: { details: expect.stringMatching(/vault:transit\/deputy.*kek_earlier/) as string },
    })
    await before.keys.close()
  })

  it('requirement 31: wraps anew under the newest version of the key', async () => {
    const { envelope, keys } = await openWith(inVault(vault))
    const sealed = await envelope.seal(at, new Secret('text'))
    vault.rotateTransit('deputy')
    expect(await envelope.rewrap(await keys.read())).toBe(1)
    const [stored] = Object.values(await files())
    expect(Buffer.from(stored!.wrapped, 'base64').toString('utf8')).toMatch(/^vault:v2:/)
    expect((await (await openWith(inVault(vault))).envelope.open(at, sealed)).reveal()).toBe('text')
    await keys.close()
  })

  it('promise 8: a wrapped key that is moved to another tenant does not open', async () => {
    const { envelope, keys } = await openWith(inVault(vault))
    const sealed = await envelope.seal(at, new Secret('text'))
    await writeFile(join(folder(), 'globex.key'), await readFile(join(folder(), 'acme.key')), { mode: 0o600 })
    await expect(
      (await openWith(inVault(vault))).envelope.open({ ...at, tenant: 'globex' }, sealed),
    ).rejects.toMatchObject({ code: 'secret_unreadable' })
    await keys.close()
  })

  it('says that the service is away, and not that the secret is lost; what was opened before still opens', async () => {
    const { envelope, keys } = await openWith(inVault(vault))
    const sealed = await envelope.seal(at, new Secret('text'))
    const fresh = await openWith(inVault(vault))
    vault.sealed = true
    expect((await envelope.open(at, sealed)).reveal()).toBe('text')
    await expect(fresh.envelope.open(at, sealed)).rejects.toMatchObject({ code: 'key_service_unavailable' })
    vault.sealed = false
    expect((await fresh.envelope.open(at, sealed)).reveal()).toBe('text')
    await keys.close()
    await fresh.keys.close()
  })

  it('fault 49: what transit refuses is told in its own words to admins, and never as lost data', async () => {
    const { envelope, keys } = await openWith(inVault(vault))
    const sealed = await envelope.seal(at, new Secret('text'))
    const refusal = async (): Promise<DeputyError> => {
      const { envelope: fresh, keys: others } = await openWith(inVault(vault))
      const error = (await fresh.open(at, sealed).catch((thrown: unknown) => thrown)) as DeputyError
      const status = await others.status()
      await others.close()
      expect(error.code).toBe('key_service_refused')
      expect(`${error.message} ${error.next}`).toMatch(/No data is lost.*`kek`/)
      // fault 53: and the status says so.
      expect(status).toContain(String(error.facts['answered']))
      expect(error.message).not.toContain(String(error.facts['answered']))
      return error
    }
    vault.rotateTransit('deputy')
    vault.minDecryptionVersion = 2
    expect(forAdmins(await refusal())).toMatch(/disallowed by policy \(too old\)/)
    vault.minDecryptionVersion = 1
    vault.allows = (_, path) => !path.startsWith('transit/decrypt')
    expect(forAdmins(await refusal())).toMatch(/permission denied/)
    vault.allows = () => true
    expect((await (await openWith(inVault(vault))).envelope.open(at, sealed)).reveal()).toBe('text')
    await keys.close()
  })

  it('fault 53: status asks a key service that no request has needed for a minute', async () => {
    let now = 0
    const keys = await openKeyEncryption(inVault(vault), [], { ...around(vault), monotonic: () => now })
    await (await keys.read()).wrap(new Uint8Array(32), Buffer.from('acme'))
    vault.allows = (_, path) => !path.startsWith('transit/decrypt')
    expect(await keys.status()).toBe('ok')
    now += 61_000
    expect(await keys.status()).toMatch(/403: permission denied/)
    vault.allows = () => true
    expect(await keys.status()).toBe('ok')
    await keys.close()
  })

  it('fault 50: goes over to another Vault whose mount and key have the same names', async () => {
    const other = await startVaultDouble()
    const sealed = await (await openWith(inVault(vault))).envelope.seal(at, new Secret('text'))
    const settings = inVault(other, 'OTHER')
    const open = async (earlier: Parameters<typeof openKeyEncryption>[1]) => {
      const keys = await openKeyEncryption(settings, earlier, {
        ...around(vault),
        environment: { TOKEN: vault.rootToken, OTHER: other.rootToken },
      })
      return { keys, envelope: await Keyring.open({ folder: folder(), kek: await keys.read(), random }) }
    }
    const both = await open([inVault(vault)])
    expect((await both.envelope.open(at, sealed)).reveal()).toBe('text')
    expect(await both.envelope.rewrap(await both.keys.read())).toBe(1)
    const alone = await open([])
    expect((await alone.envelope.open(at, sealed)).reveal()).toBe('text')
    for (const { keys } of [both, alone]) await keys.close()
    await other.close()
  })

  it('fault 49: a key file that cannot be read or is damaged is no lost data, and the path is named', async () => {
    await keysAndStore.envelope.seal(at, new Secret('text'))
    const sealed = await keysAndStore.envelope.seal(at, new Secret('text'))
    const path = join(folder(), 'acme.key')
    const text = await readFile(path, 'utf8')
    await writeFile(path, text.slice(0, 40))
    const { envelope } = await openWith({ env: 'KEK' })
    const error = (await envelope.open(at, sealed).catch((thrown: unknown) => thrown)) as DeputyError
    expect([error.code, forAdmins(error)]).toEqual(['data_key_unavailable', expect.stringContaining(path)])
    // Callers over the local API read these two.
    expect(`${error.message} ${error.next}`).not.toContain(folder())
    await writeFile(path, text)
    expect((await envelope.open(at, sealed)).reveal()).toBe('text')
  })
})

describe('a keyring whose key-encryption key is in AWS KMS', () => {
  let aws: AwsDouble
  let keysAndStore: KeysAndStore
  let client: KMSClient
  beforeEach(async () => {
    aws = await startAwsDouble()
    keysAndStore = await startGround()
    client = new KMSClient({
      region: aws.region,
      endpoint: aws.url,
      credentials: { accessKeyId: aws.accessKeyId, secretAccessKey: aws.secretAccessKey },
    })
  })
  afterEach(async () => {
    client.destroy()
    await keysAndStore.close()
    await aws.close()
  })
  const at = { tenant: 'acme', kind: 'grant', id: 'g' }
  const keyOf = (key = 'alias/deputy') => watchKeyService(kmsKey({ id: 'kek', key, client }), () => performance.now())
  const keyring = (key?: string) => Keyring.open({ folder: join(keysAndStore.folder, 'kms'), kek: keyOf(key), random })

  it('fault 92: an alias that is moved to another key opens what it wrapped before, and wraps by the other', async () => {
    aws.aliases.set('alias/deputy', aws.keyId)
    const sealed = await (await keyring()).seal(at, new Secret('text'))
    aws.aliases.set('alias/deputy', aws.addKey())
    const moved = await keyring()
    expect((await moved.open(at, sealed)).reveal()).toBe('text')
    expect(await moved.rewrap(keyOf())).toBe(1)
    aws.setKeyState(aws.keyId, 'PendingDeletion')
    expect((await (await keyring()).open(at, sealed)).reveal()).toBe('text')
  })

  it('fault 92: a key file of an earlier version, which names the alias, opens with the earlier key named', async () => {
    aws.aliases.set('alias/deputy', aws.keyId)
    const sealed = await (await keyring()).seal(at, new Secret('text'))
    const path = join(keysAndStore.folder, 'kms', 'acme.key')
    const file = JSON.parse(await readFile(path, 'utf8')) as object
    await writeFile(path, JSON.stringify({ ...file, kek: 'aws-kms:alias/deputy' }))
    aws.aliases.set('alias/deputy', aws.addKey())
    await expect((await keyring()).open(at, sealed)).rejects.toMatchObject({ code: 'key_service_refused' })
    const kek = withEarlierKeys(keyOf(), [keyOf(aws.keyId)])
    const both = await Keyring.open({ folder: join(keysAndStore.folder, 'kms'), kek, random })
    expect((await both.open(at, sealed)).reveal()).toBe('text')
  })

  it('threat: a key file names no key of another account', async () => {
    aws.aliases.set('alias/deputy', aws.keyId)
    const sealed = await (await keyring()).seal(at, new Secret('text'))
    const path = join(keysAndStore.folder, 'kms', 'acme.key')
    const file = await readFile(path, 'utf8')
    await writeFile(path, file.replace(':1:key/', ':2:key/'))
    aws.aliases.set('alias/deputy', aws.addKey())
    await expect((await keyring()).open(at, sealed)).rejects.toMatchObject({ code: 'key_service_refused' })
    expect(aws.asked.filter((each) => each.includes(':2:key'))).toEqual([])
  })

  it.each([
    ['a disabled key', () => aws.setKeyState(aws.keyId, 'Disabled'), /DisabledException.*is disabled/],
    ['one that is pending deletion', () => aws.setKeyState(aws.keyId, 'PendingDeletion'), /pending deletion/],
    ['a missing right', () => aws.denied.add('Decrypt'), /not authorized to perform/],
    ['a name that leads nowhere', () => aws.aliases.clear(), /NotFoundException/],
  ])('fault 93: %s is told in the words of KMS, and never as lost data', async (_, spoil, words) => {
    aws.aliases.set('alias/deputy', aws.keyId)
    const sealed = await (await keyring()).seal(at, new Secret('text'))
    spoil()
    const error = (await (await keyring()).open(at, sealed).catch((thrown: unknown) => thrown)) as DeputyError
    expect([error.code, error.next]).toEqual(['key_service_refused', expect.stringContaining('`kek`')])
    expect(forAdmins(error)).toMatch(words)
  })
})
