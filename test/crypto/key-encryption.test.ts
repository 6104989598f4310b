import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { KMSClient } from '@aws-sdk/client-kms'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createSystemRandom, systemClock } from '../../src/clock.ts'
import { keyEncryptionSchema } from '../../src/config/key-encryption.ts'
import { keyFromText, newKeyText } from '../../src/crypto/key-encryption-key.ts'
import { Keyring } from '../../src/crypto/keyring.ts'
import { Secret } from '../../src/crypto/secret.ts'
import { openKeyEncryption } from '../../src/key-encryption.ts'
import { silentLogger } from '../../src/observe/logger.ts'
import { kmsKey } from '../../src/secret/aws/kms.ts'
import { describeKeyEncryptionKey } from '../conformance/key-encryption-key.ts'
import { startAwsDouble } from '../doubles/aws.ts'
import { startVaultDouble, type VaultDouble } from '../doubles/vault.ts'
import { startGround, type Ground } from '../support/keyring.ts'

const random = createSystemRandom()
const around = (vault?: VaultDouble) => ({
  home: '/',
  environment: { TOKEN: vault?.rootToken, KEK: newKeyText(random) },
  clock: systemClock,
  monotonic: () => performance.now(),
  logger: silentLogger,
  random,
})
const inVault = (vault: VaultDouble) =>
  keyEncryptionSchema.parse({
    vault: { address: vault.url, login: { token: { env: 'TOKEN' } }, key: 'deputy', timeout: '500ms' },
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
  let ground: Ground
  beforeEach(async () => {
    vault = await startVaultDouble()
    ground = await startGround()
  })
  afterEach(async () => {
    await ground.close()
    await vault.close()
  })
  const at = { tenant: 'acme', kind: 'grant', id: 'g' }
  const folder = (): string => join(ground.folder, 'keys')
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
      environment: { TOKEN: vault.rootToken, KEK: ground.kekText },
    })
    return { keys, envelope: await Keyring.open({ folder: folder(), kek: await keys.read(), random }) }
  }

  it('promise 8: goes over to another provider by wrapping anew, and no ciphertext changes', async () => {
    const sealed = await ground.envelope.seal(at, new Secret('text'))
    await ground.envelope.seal({ ...at, tenant: 'globex' }, new Secret('text'))
    const both = await openWith(inVault(vault), [{ env: 'KEK' }])
    expect((await both.envelope.open(at, sealed)).reveal()).toBe('text')
    expect(await both.envelope.rewrap(await both.keys.read())).toBe(2)
    await both.keys.close()
    expect(new Set(Object.values(await files()).map(({ kek }) => kek))).toEqual(new Set(['vault:transit/deputy']))
    const alone = await openWith(inVault(vault))
    expect((await alone.envelope.open(at, sealed)).reveal()).toBe('text')
    await alone.keys.close()
    const before = await openWith({ env: 'KEK' })
    await expect(before.envelope.open(at, sealed)).rejects.toMatchObject({ code: 'secret_unreadable' })
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
    await expect(fresh.envelope.open(at, sealed)).rejects.toMatchObject({ code: 'secret_backend_unavailable' })
    vault.sealed = false
    expect((await fresh.envelope.open(at, sealed)).reveal()).toBe('text')
    await keys.close()
    await fresh.keys.close()
  })
})
