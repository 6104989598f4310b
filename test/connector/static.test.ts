import { describe, expect, it } from 'vitest'
import { downstreamSchema, keeps } from '../../src/config/downstream.ts'
import type { Credential, CredentialRequest } from '../../src/credentials/connector/connector.ts'
import { kinds } from '../../src/credentials/connector/kinds.ts'
import { createStaticConnector, type RotationTerms } from '../../src/credentials/connector/static.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { aServer, aTenant } from '../support/snapshot.ts'

type Kind = 'static' | 'api_key' | 'basic'
const NOW = 1_700_000_000_000

const obtain = (credential: Kind, value: string, terms?: RotationTerms): Promise<Credential> => {
  const connector = createStaticConnector(credential, {
    clock: { now: () => NOW },
    termsOf: () => terms,
    read: (secret) => {
      expect(secret).toEqual({ tenant: 'acme', backend: 'embedded', secret: 'key' })
      return Promise.resolve({ value: new Secret(value), version: '3', token: null })
    },
  })
  const downstream = downstreamSchema.parse({ downstream: 'mail', credential, secret: 'key' })
  const request: CredentialRequest = {
    principal: { kind: 'user', tenant: 'acme', user: 'alice' },
    tenant: aTenant(),
    server: aServer(),
    downstream,
    scopes: [],
    notAfter: Infinity,
    audiences: [],
    priorActors: [],
    ancestors: [],
    correlationId: 'c',
  }
  return connector.obtain(request)
}
const given = async (...args: Parameters<typeof obtain>): Promise<string> =>
  (await obtain(...args).catch((error: { code: string }) => ({ token: { reveal: () => error.code } }))).token.reveal()

describe('a secret of the tenant', () => {
  it('as a key is one line that a header can hold', async () => {
    for (const key of ['k', 'sk-live 12~', 'x'.repeat(4000)]) expect(await given('api_key', key)).toBe(key)
    for (const none of ['', ' k', 'k ', 'k\n', 'a\r\nX-Admin: 1', 'schlüssel', 'a\u0000b', '\u2028'])
      expect([none, await given('api_key', none)]).toEqual([none, 'secret_malformed'])
    expect(await given('static', 'a\r\nb')).toBe('a\r\nb')
  })

  it('as a login is JSON with user and password, and nothing beside it is handed out', async () => {
    expect(await given('basic', '{"username":"mail","password":"a:b ü","url":"postgres://inner"}')).toBe(
      '{"username":"mail","password":"a:b ü"}',
    )
    for (const none of [
      'mail:secret',
      '{}',
      '{"username":"a:b","password":"c"}',
      '{"username":"","password":"c"}',
      '{"username":"a\\r\\n","password":"c"}',
      '{"username":"a","password":"c\\n"}',
      '[]',
      'null',
    ])
      expect([none, await given('basic', none)]).toEqual([none, 'secret_malformed'])
  })

  it('promise 5: that is malformed is not in the error', async () => {
    for (const kind of ['api_key', 'basic'] as const) {
      const error = (await obtain(kind, 'hunter2\n').catch((thrown: Error & { facts: object }) => thrown)) as Error & {
        facts: object
      }
      expect(`${error.message} ${JSON.stringify(error.facts)}`).not.toContain('hunter2')
    }
  })

  it('rotates on the same terms whatever it is', async () => {
    for (const [kind, value] of [
      ['static', 'x'],
      ['api_key', 'x'],
      ['basic', '{"username":"a","password":"b"}'],
    ] as const) {
      const terms = { grace: 60_000, supportsDualSecrets: true, endsEarly: true }
      expect(await obtain(kind, value, terms)).toMatchObject({
        volatile: true,
        checkout: { secret: { tenant: 'acme', backend: 'embedded', secret: 'key' }, version: '3', mustBeCurrent: true },
        expiresAt: NOW + 60_000,
        tokenType: 'N_A',
      })
      const downstream = downstreamSchema.parse({ downstream: 'mail', credential: kind, secret: 'key' })
      expect([
        keeps(downstream, { backend: 'embedded', secret: 'key' }),
        keeps(downstream, { backend: 'vault', secret: 'key' }),
        keeps(undefined, { backend: 'embedded', secret: 'key' }),
      ]).toEqual([true, false, false])
      expect(kinds[kind].narrows(downstream, undefined)).toEqual([])
    }
  })
})
