import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { keyFromText, newKeyText } from '../../src/foundation/crypto/key-encryption-key.ts'
import { OWN_TENANT } from '../../src/foundation/crypto/envelope.ts'
import { KEY_READ_AGAIN, Keyring } from '../../src/foundation/crypto/keyring.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { startGround, type KeysAndStore } from '../support/keyring.ts'

let keysAndStore: KeysAndStore
beforeAll(async () => {
  keysAndStore = await startGround()
})
afterAll(async () => {
  await keysAndStore?.close()
})

const random = createSystemRandom()
const keys = (): string => join(keysAndStore.folder, 'keys')
const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'opened',
    (error: { code: string }) => error.code,
  )
const name = fc.record({
  tenant: fc.constantFrom('acme', 'globex'),
  kind: fc.constantFrom('grant', 'secret'),
  id: fc.string({ maxLength: 20 }),
})

describe('the keyring', () => {
  it('opens what it sealed, under the same name and no other', async () => {
    await fc.assert(
      fc.asyncProperty(name, name, fc.string({ unit: 'grapheme' }), async (sealedAs, openedAs, text) => {
        const sealed = await keysAndStore.envelope.seal(sealedAs, new Secret(text))
        expect((await keysAndStore.envelope.open(sealedAs, sealed)).reveal()).toBe(text)
        const same =
          sealedAs.tenant === openedAs.tenant && sealedAs.kind === openedAs.kind && sealedAs.id === openedAs.id
        expect(await codeOf(keysAndStore.envelope.open(openedAs, sealed))).toBe(same ? 'opened' : 'secret_unreadable')
      }),
      { numRuns: 200 },
    )
  })

  it('opens nothing of which a bit was changed, or that was cut', async () => {
    const at = { tenant: 'acme', kind: 'grant', id: 'g' }
    const sealed = await keysAndStore.envelope.seal(at, new Secret('a secret text'))
    for (let byte = 0; byte < sealed.length; byte += 1) {
      const changed = Uint8Array.from(sealed)
      changed[byte]! ^= 1 << (byte % 8)
      expect(await codeOf(keysAndStore.envelope.open(at, changed))).toBe('secret_unreadable')
      expect(await codeOf(keysAndStore.envelope.open(at, sealed.subarray(0, byte)))).toBe('secret_unreadable')
    }
  })

  it("promise 5: a tenant's destroyed key makes its records unreadable, those in a backup too, and touches nobody else", async () => {
    const [acme, globex] = [
      { tenant: 'acme', kind: 'secret', id: 's' },
      { tenant: 'globex', kind: 'secret', id: 's' },
    ]
    const backup = await keysAndStore.envelope.seal(acme, new Secret('old'))
    const other = await keysAndStore.envelope.seal(globex, new Secret('kept'))
    await keysAndStore.envelope.destroy('acme')
    expect(await codeOf(keysAndStore.envelope.open(acme, backup))).toBe('secret_unreadable')
    await keysAndStore.envelope.seal(acme, new Secret('new'))
    expect(await codeOf(keysAndStore.envelope.open(acme, backup))).toBe('secret_unreadable')
    expect((await keysAndStore.envelope.open(globex, other)).reveal()).toBe('kept')
  })

  it('a new key-encryption key wraps every data key anew; killed in between, either key is enough to go on', async () => {
    const at = { tenant: 'acme', kind: 'secret', id: 'r' }
    const sealed = await keysAndStore.envelope.seal(at, new Secret('text'))
    const [before, after] = [keysAndStore.kekText, newKeyText(random)]
    const files = await readdir(keys())
    const old = await Promise.all(files.map((file) => readFile(join(keys(), file), 'utf8')))
    const both = await Keyring.open({ folder: keys(), kek: keyFromText(after + before, 'test', random), random })
    expect(await both.rewrap(keyFromText(after + before, 'test', random))).toBe(files.length)
    // One file as it was before: as after a kill.
    await writeFile(join(keys(), files[0]!), old[0]!, { mode: 0o600 })
    const resumed = await Keyring.open({ folder: keys(), kek: keyFromText(after + before, 'test', random), random })
    expect((await resumed.open(at, sealed)).reveal()).toBe('text')
    expect(await resumed.rewrap(keyFromText(after + before, 'test', random))).toBe(1)
    const alone = await Keyring.open({ folder: keys(), kek: keyFromText(after, 'test', random), random })
    expect((await alone.open(at, sealed)).reveal()).toBe('text')
    const wrong = await Keyring.open({ folder: keys(), kek: keyFromText(before, 'test', random), random })
    expect(await codeOf(wrong.open(at, sealed))).toBe('data_key_unavailable')
  })

  it('fault 49, promise 8: a folder of keys that is not mounted is told as that; no key is made or destroyed in its place', async () => {
    const place = await startGround()
    onTestFinished(() => place.close())
    const { store, kekText, folder } = place
    const [mounted, away] = [join(folder, 'keys'), join(folder, 'away')]
    const open = (monotonic: () => number = () => 0) =>
      Keyring.open({
        folder: mounted,
        kek: keyFromText(kekText, 'test', random),
        random,
        monotonic,
        hasRecords: (tenant) => store.sealed.has(tenant),
      })
    let time = 0
    const running = await open(() => time)
    const sealed = new Map<string, Uint8Array>()
    const at = (tenant: string) => ({ tenant, kind: 'secret', id: 's#1' })
    for (const tenant of [OWN_TENANT, 'acme', 'globex']) {
      sealed.set(tenant, await running.seal(at(tenant), new Secret(`of ${tenant}`)))
      await store.secrets.putCurrent({
        tenant,
        name: 's',
        version: 1,
        sealed: sealed.get(tenant)!,
        createdAt: 0,
        token: null,
      })
    }
    await rename(mounted, away)
    await mkdir(mounted)
    time += KEY_READ_AGAIN
    // What was opened stays open; all else is missing, for new tenants too, and in a process that starts now.
    expect((await running.open(at('acme'), sealed.get('acme')!)).reveal()).toBe('of acme')
    const started = await open()
    for (const work of [
      () => started.open(at('acme'), sealed.get('acme')!),
      () => started.open(at(OWN_TENANT), sealed.get(OWN_TENANT)!),
      () => started.seal(at('acme'), new Secret('new')),
      () => started.seal(at('initech'), new Secret('first')),
      () => started.addKey('acme'),
      () => running.destroy('globex'),
      () => started.destroy('globex'),
    ])
      expect(await codeOf(work())).toBe('data_key_unavailable')
    expect(await readdir(mounted)).toEqual([])
    await rm(mounted, { recursive: true })
    await rename(away, mounted)
    expect((await started.open(at('globex'), sealed.get('globex')!)).reveal()).toBe('of globex')
    // One file that is missing is no reason to begin anew either, until what it sealed is given up.
    await rm(join(mounted, 'globex.key'))
    const again = await open()
    expect(await codeOf(again.seal(at('globex'), new Secret('new')))).toBe('data_key_unavailable')
    await store.secrets.remove({ tenant: 'globex' })
    await again.destroy('globex')
    expect(await codeOf(again.open(at('globex'), sealed.get('globex')!))).toBe('secret_unreadable')
    await again.seal(at('globex'), new Secret('new'))
  })

  it('fault 49: two nodes that use a tenant first at one moment get one key, also where one has written already', async () => {
    const place = await startGround()
    onTestFinished(() => place.close())
    const at = { tenant: 'acme', kind: 'secret', id: 's#1' }
    const open = (hasRecords: (tenant: string) => Promise<boolean>) =>
      Keyring.open({
        folder: join(place.folder, 'keys'),
        kek: keyFromText(place.kekText, 'test', random),
        random,
        hasRecords,
      })
    const first = await open(() => Promise.resolve(false))
    let sealed: Uint8Array | undefined
    const second = await open(async (tenant) => {
      if (tenant !== 'acme') return false
      sealed ??= await first.seal(at, new Secret('text'))
      return true
    })
    const theirs = await second.seal(at, new Secret('other'))
    expect((await first.open(at, theirs)).reveal()).toBe('other')
    expect((await second.open(at, sealed!)).reveal()).toBe('text')
  })

  it('many first uses of a tenant at once make one key', async () => {
    const at = (id: number) => ({ tenant: 'initech', kind: 'secret', id: String(id) })
    const sealed = await Promise.all(
      Array.from({ length: 50 }, (_, id) => keysAndStore.envelope.seal(at(id), new Secret(String(id)))),
    )
    for (const [id, each] of sealed.entries())
      expect((await keysAndStore.envelope.open(at(id), each)).reveal()).toBe(String(id))
  })

  it('promise 5: no secret prints itself', async () => {
    const { inspect } = await import('node:util')
    const secret = new Secret('canary')
    const error = new Error('x', { cause: { secret } })
    for (const text of [
      String(secret),
      `${secret}`,
      JSON.stringify({ secret }),
      inspect({ deep: [secret] }),
      inspect(error),
      inspect(secret, { showHidden: true }),
    ])
      expect(text).not.toContain('canary')
  })
})
