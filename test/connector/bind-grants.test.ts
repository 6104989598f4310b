import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { bindGrants } from '../../src/credentials/connector/oauth-grant/bind.ts'
import { keyFromText, newKeyText } from '../../src/foundation/crypto/key-encryption-key.ts'
import { Keyring } from '../../src/foundation/crypto/keyring.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { grantRecordName } from '../../src/foundation/store/records/grants.ts'
import { openSqliteStore } from '../../src/foundation/store/sqlite/open.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'

it('fault 12: grants of an earlier version are bound once; a grant of the earlier form is not believed afterwards', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'deputy-bind-'))
  const random = createSystemRandom()
  const store = await openSqliteStore({ path: join(folder, 'deputy.db') })
  onTestFinished(async () => {
    await store.close()
    await rm(folder, { recursive: true, force: true })
  })
  const keys = join(folder, 'keys')
  const envelope = await Keyring.open({ folder: keys, kek: keyFromText(newKeyText(random), 'test', random), random })
  const bind = (): Promise<void> => bindGrants({ folder: keys, grants: store.grants, envelope, logger: silentLogger })
  const put = async (id: string, user: string): Promise<void> => {
    const sealed = await envelope.seal({ tenant: 'acme', kind: 'grant', id }, new Secret(`tokens of ${user}`))
    await store.grants.put({
      id,
      tenant: 'acme',
      user,
      server: 'notes',
      downstream: 'd',
      provider: 'p',
      clientGeneration: 'g',
      scopes: [],
      status: 'active',
      problem: null,
      sealed,
      createdAt: 0,
      updatedAt: 0,
    })
  }
  const open = async (id: string): Promise<string> => {
    const grant = (await store.grants.get(id))!
    return envelope.open(grantRecordName(grant), grant.sealed).then(
      (text) => text.reveal(),
      (error: { code: string }) => error.code,
    )
  }
  await put('one', 'alice')
  await put('two', 'bob')
  await bind()
  expect([await open('one'), await open('two')]).toEqual(['tokens of alice', 'tokens of bob'])
  await put('three', 'carol')
  await bind()
  expect(await open('three')).toBe('secret_unreadable')
})
