import { expect, it } from 'vitest'
import { createMemoryCache } from '../../src/foundation/cache/memory.ts'
import type { Connectors, Credential, CredentialRequest } from '../../src/credentials/connector/connector.ts'
import { ACCESS_TOKEN_TYPE } from '../../src/oauth/token-type.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createObtain } from '../../src/flows/exchange/obtain.ts'
import type { CachedCredential } from '../../src/credentials/cache/cached-credential.ts'
import type { SharedCredentials } from '../../src/credentials/cache/shared-credentials.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import { aClock, aServer, aTenant } from '../support/snapshot.ts'

/** Two nodes that share what they have fetched. Every credential that is made is another one. */
const nodes = () => {
  const clock = aClock()
  const shelf = new Map<string, { entry: CachedCredential; expiresAt: number }>()
  const shared: SharedCredentials = {
    keyOf: () => 'key',
    get: (_tenant, key) => Promise.resolve(shelf.get(key)),
    set: (key, entry, expiresAt) => Promise.resolve(void shelf.set(key, { entry, expiresAt })),
    remove: (key) => Promise.resolve(void shelf.delete(key)),
  }
  const made: string[] = []
  const reports: CredentialRequest['rejected'][] = []
  const endedLeases: string[] = []
  const connector = {
    obtain: ({ rejected }: CredentialRequest): Promise<Credential> => {
      reports.push(rejected)
      const token = `token-${made.length + 1}`
      made.push(token)
      return Promise.resolve({
        token: new Secret(token),
        issuedTokenType: ACCESS_TOKEN_TYPE,
        tokenType: 'Bearer',
        scopes: [],
        expiresAt: clock.now() + 3_600_000,
        overScoped: false,
        grant: `lease-${made.length}`,
        auditNote: '',
      })
    },
  }
  const node = () => {
    const obtain = createObtain({
      cache: createMemoryCache({ entries: 100, clock }),
      shared,
      connectors: {
        client_credentials: connector,
        dynamic: connector,
        oauth_grant: connector,
      } as unknown as Connectors,
      clock,
      isVoid: () => false,
      versionsOf: () => undefined,
      forgetSecret: () => undefined,
      lastRevocation: () => 0,
      hasGrant: () => Promise.resolve(true),
      endLease: (lease) => Promise.resolve(void endedLeases.push(lease)),
      logger: silentLogger,
    })
    return async (rejected?: string, credential = 'client_credentials'): Promise<string> => {
      const request = {
        principal: { kind: 'user', tenant: 'acme', user: 'alice' },
        tenant: aTenant(),
        server: aServer(),
        downstream: { downstream: 'd', credential },
        scopes: [],
        notAfter: Infinity,
        audiences: [],
        priorActors: [],
        ancestors: [],
        correlationId: 'id',
        ...(rejected === undefined ? {} : { rejected: { token: new Secret(rejected) } }),
      } as unknown as CredentialRequest
      return (await obtain(request, 1)).credential.token.reveal()
    }
  }
  return { clock, made, reports, endedLeases, one: node(), other: node() }
}

it('fault 20: a credential that is refused leaves the shared cache; another node that had it takes the fresh one from there', async () => {
  const { one, other, made } = nodes()
  expect([await one(), await other()]).toEqual(['token-1', 'token-1'])
  expect(await one('token-1')).toBe('token-2')
  expect(await other('token-1')).toBe('token-2')
  expect(made).toHaveLength(2)
})

it('fault 20: reports make a credential anew once in ten minutes, at the same moment too', async () => {
  const { one, made, clock } = nodes()
  await one()
  expect(new Set(await Promise.all(Array.from({ length: 20 }, () => one('token-1'))))).toEqual(new Set(['token-2']))
  for (const token of ['token-2', 'token-1', 'guessed']) expect(await one(token)).toBe('token-2')
  clock.forward(300_000)
  expect(await one('token-2')).toBe('token-2')
  clock.forward(300_000)
  expect(await one('token-2')).toBe('token-3')
  expect(made).toHaveLength(3)
})

it('fault 20: a lease whose login is refused is ended', async () => {
  const { one, endedLeases } = nodes()
  await one(undefined, 'dynamic')
  await Promise.all(Array.from({ length: 5 }, () => one('token-1', 'dynamic')))
  expect(await one(undefined, 'dynamic')).toBe('token-2')
  expect(endedLeases).toEqual(['lease-1'])
})

it('fault 20: a secret whose copy is refused is read anew from its backend, once in ten minutes', async () => {
  const clock = aClock()
  const kept = { value: 'old', copy: undefined as string | undefined, readings: 0 }
  const read = (): string => {
    if (kept.copy === undefined) kept.readings += 1
    return (kept.copy ??= kept.value)
  }
  const obtain = createObtain({
    cache: createMemoryCache({ entries: 100, clock }),
    connectors: {
      static: {
        kind: 'static',
        obtain: () =>
          Promise.resolve({
            token: new Secret(read()),
            issuedTokenType: ACCESS_TOKEN_TYPE,
            tokenType: 'N_A',
            scopes: [],
            expiresAt: clock.now() + 3_600_000,
            overScoped: false,
            auditNote: '',
          } satisfies Credential),
      },
    } as unknown as Connectors,
    clock,
    isVoid: () => false,
    versionsOf: () => Promise.resolve(read()),
    forgetSecret: (secret) => {
      expect(secret).toEqual({ tenant: 'acme', backend: 'vault', secret: 'login' })
      kept.copy = undefined
    },
    lastRevocation: () => 0,
    hasGrant: () => Promise.resolve(true),
    endLease: () => Promise.reject(new Error('not leased')),
    logger: silentLogger,
  })
  const ask = async (rejected?: string): Promise<string> =>
    (
      await obtain(
        {
          principal: { kind: 'user', tenant: 'acme', user: 'alice' },
          tenant: aTenant(),
          server: aServer(),
          downstream: { downstream: 'd', credential: 'static', backend: 'vault', secret: 'login' },
          scopes: [],
          notAfter: Infinity,
          audiences: [],
          priorActors: [],
          ancestors: [],
          correlationId: 'id',
          ...(rejected === undefined ? {} : { rejected: { token: new Secret(rejected) } }),
        } as unknown as CredentialRequest,
        1,
      )
    ).credential.token.reveal()
  expect(await ask()).toBe('old')
  kept.value = 'new'
  expect([await ask(), await ask('guessed'), kept.readings]).toEqual(['old', 'old', 1])
  expect([await ask('old'), await ask(), kept.readings]).toEqual(['new', 'new', 2])
  kept.value = 'newer'
  // Reports cannot make Deputy ask the backend without end.
  for (let turn = 0; turn < 3; turn += 1) expect(await ask('new')).toBe('new')
  expect(kept.readings).toBe(2)
  clock.forward(600_000)
  expect(await ask('new')).toBe('newer')
})

it('fault 20: a grant hears whether the credential that is refused is one that a report has brought', async () => {
  const { one, reports } = nodes()
  for (const rejected of [undefined, 'token-1', 'token-2']) await one(rejected, 'oauth_grant')
  expect(reports.map((report) => report?.renewed)).toEqual([undefined, false, true])
})
