import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { keyFromFile, keyFromText } from '../../src/foundation/crypto/key-encryption-key.ts'
import { KEY_READ_AGAIN, Keyring } from '../../src/foundation/crypto/keyring.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { SigningKeys } from '../../src/foundation/keys/signing-keys.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { createOwnKeys } from '../../src/daemon/own-keys.ts'
import { createEmbeddedSecrets } from '../../src/credentials/secret/embedded.ts'
import { startGround, type KeysAndStore } from '../support/keyring.ts'
import { aClock } from '../support/snapshot.ts'

const random = createSystemRandom()
const at = (id: string) => ({ tenant: 'acme', kind: 'grant', id })
const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'opened',
    (error: { code: string }) => error.code,
  )
const keyIn = (sealed: Uint8Array): string => Buffer.from(sealed.subarray(1, 9)).toString('hex')

describe("a tenant's data key that is replaced", () => {
  let keysAndStore: KeysAndStore
  let elapsed: number
  beforeEach(async () => {
    keysAndStore = await startGround()
    elapsed = 0
  })
  afterEach(() => keysAndStore.close())
  const anotherNode = (): Promise<Keyring> =>
    Keyring.open({
      folder: join(keysAndStore.folder, 'keys'),
      kek: keyFromText(keysAndStore.kekText, 'test', random),
      random,
      monotonic: () => elapsed,
    })

  it('promise 8: opens what was sealed before until it is dropped; every node seals under the next one in time', async () => {
    const other = await anotherNode()
    const before = await other.seal(at('g1'), new Secret('text'))
    const next = await keysAndStore.envelope.addKey('acme')
    expect(keyIn(await keysAndStore.envelope.seal(at('g2'), new Secret('text')))).toBe(next)
    expect((await keysAndStore.envelope.open(at('g1'), before)).reveal()).toBe('text')
    // What this node has sealed the other one opens at once, and seals under the new key a while later.
    expect((await other.open(at('g2'), await keysAndStore.envelope.seal(at('g2'), new Secret('new')))).reveal()).toBe(
      'new',
    )
    elapsed += KEY_READ_AGAIN
    expect(keyIn(await other.seal(at('g3'), new Secret('text')))).toBe(next)
    expect(await keysAndStore.envelope.idsOf('acme')).toEqual([next, keyIn(before)])
    await keysAndStore.envelope.dropEarlierKeys('acme')
    expect([
      await codeOf(keysAndStore.envelope.open(at('g1'), before)),
      await codeOf((await anotherNode()).open(at('g1'), before)),
    ]).toEqual(['secret_unreadable', 'secret_unreadable'])
  })

  it("promise 8: a destroyed tenant's keys are gone with the file, the earlier ones too", async () => {
    const before = await keysAndStore.envelope.seal(at('g1'), new Secret('text'))
    await keysAndStore.envelope.addKey('acme')
    const after = await keysAndStore.envelope.seal(at('g2'), new Secret('text'))
    await keysAndStore.envelope.destroy('acme')
    expect([
      await codeOf(keysAndStore.envelope.open(at('g1'), before)),
      await codeOf(keysAndStore.envelope.open(at('g2'), after)),
    ]).toEqual(['secret_unreadable', 'secret_unreadable'])
  })

  it('promise 7: every record is sealed anew before the earlier key ends, whatever is written meanwhile; what is unreadable keeps nothing', async () => {
    const clock = aClock()
    const { envelope, store } = keysAndStore
    const path = join(keysAndStore.folder, 'kek')
    await writeFile(path, keysAndStore.kekText, { mode: 0o600 })
    const signingKeys = await SigningKeys.open({
      store: store.signingKeys,
      envelope,
      clock,
      lifetime: 86_400_000,
      longestToken: 3_600_000,
    })
    const keys = createOwnKeys({
      keysAndStore: { envelope, store, signingKeys, alone: (work) => work(), readKek: () => keyFromFile(path, random) },
      settings: { kek: { file: path } },
      home: '/',
      clock,
      random,
      logger: silentLogger,
    })
    const secrets = createEmbeddedSecrets({ store: store.secrets, envelope, clock })
    const names = Array.from({ length: 250 }, (_, index) => `secret-${index}`)
    for (const name of names) await secrets.write('acme', name, new Secret(`value of ${name}`))
    await store.secrets.putCurrent({
      tenant: 'acme',
      name: 'broken',
      version: 1,
      sealed: Buffer.concat([await envelope.seal(at('else'), new Secret('x'))]),
      createdAt: 1,
      token: null,
    })

    const [before] = await envelope.idsOf('acme')
    const { id } = await keys.rotate('data-key.acme')
    const [count] = await Promise.all([
      keys.endEarlier('acme'),
      ...names.slice(0, 50).map((name) => secrets.write('acme', name, new Secret(`second value of ${name}`))),
    ])
    expect(count).toBeGreaterThanOrEqual(250)
    expect(await envelope.idsOf('acme')).toEqual([id])
    expect([await keys.isKnown('data-key.acme', before!), await keys.isKnown('data-key.acme', id)]).toEqual([
      false,
      true,
    ])
    for (const [index, name] of names.entries())
      expect((await secrets.read('acme', name)).value.reveal()).toBe(`${index < 50 ? 'second ' : ''}value of ${name}`)
    expect(await codeOf(secrets.read('acme', 'broken'))).toBe('secret_unreadable')
    // Deputy's own keys are sealed like everything else.
    await keys.rotate('data-key._deputy')
    await keys.endEarlier('_deputy')
    await signingKeys.refresh()
    expect(signingKeys.kid('token')).not.toBe('')
  })
})
