import { expect, it } from 'vitest'
import type { SharedBytes } from '../../src/foundation/redis/redis.ts'
import { systemClock } from '../../src/clock.ts'
import { ACCESS_TOKEN_TYPE } from '../../src/oauth/token-type.ts'
import { createProofKey } from '../../src/foundation/crypto/proof-key.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createSharedCredentials } from '../../src/credentials/cache/shared-credentials.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { startGround } from '../support/keyring.ts'

it('requirement 23: a bound token is shared with its key, of which nothing can be read where they lie', async () => {
  const { envelope, close } = await startGround()
  const kept = new Map<string, Buffer>()
  const bytes = {
    get: (_kind: string, key: string) => Promise.resolve(kept.get(key)),
    set: (_kind: string, key: string, value: Uint8Array) => {
      kept.set(key, Buffer.from(value))
      return Promise.resolve()
    },
  } as unknown as SharedBytes
  const shared = createSharedCredentials({
    bytes,
    envelope,
    fingerprint: () => '',
    generationOf: () => '',
    clock: systemClock,
    logger: silentLogger,
  })
  const proofKey = await createProofKey()
  const until = Date.now() + 60_000
  await shared.set(
    'key',
    {
      credential: {
        token: new Secret('a-bound-token'),
        issuedTokenType: ACCESS_TOKEN_TYPE,
        tokenType: 'DPoP',
        proofKey,
        scopes: [],
        expiresAt: until,
        overScoped: false,
        auditNote: '',
      },
      tenant: 'acme',
      user: 'alice',
      server: 'notes',
      downstreams: ['d'],
      provider: 'p',
      tokens: [],
      since: 0,
      known: 0,
    },
    until,
  )
  expect(kept.get('key')!.toString('latin1')).not.toMatch(/PRIVATE KEY|a-bound-token/)
  const found = await shared.get('acme', 'key')
  expect(found?.entry.credential).toMatchObject({ tokenType: 'DPoP', proofKey: { jkt: proofKey.jkt } })

  // An entry of a node of the earlier version, which has `wider` for `over_scoped`.
  const name = { tenant: 'acme', kind: 'shared-credential', id: 'key' }
  const { over_scoped: overScoped, ...entry } = JSON.parse((await envelope.open(name, kept.get('key')!)).reveal()) as {
    over_scoped: boolean
  }
  expect(overScoped).toBe(false)
  const earlier = JSON.stringify({ ...entry, wider: true })
  kept.set('key', Buffer.from(await envelope.seal(name, new Secret(earlier))))
  expect((await shared.get('acme', 'key'))?.entry.credential.overScoped).toBe(true)
  await close()
})
