import { createPrivateKey, X509Certificate } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { downstreamSchema, type Downstream } from '../../src/config/downstream.ts'
import { isLeaseWanted } from '../../src/flows/exchange/lease-life.ts'
import type { CredentialRequest } from '../../src/credentials/connector/connector.ts'
import { kinds } from '../../src/credentials/connector/kinds.ts'
import { createMtlsCertificateConnector } from '../../src/credentials/connector/token-endpoint/mtls-certificate.ts'
import { silentLogger } from '../../src/foundation/telemetry/logger.ts'
import type { LeasedSecrets } from '../../src/credentials/secret/backend.ts'
import { Leases } from '../../src/credentials/secret/leases.ts'
import { createVaultPki } from '../../src/credentials/secret/vault/pki.ts'
import { startVaultDouble, type VaultDouble } from '../doubles/vault.ts'
import { startGround, type KeysAndStore } from '../support/keyring.ts'
import { aServer, aSnapshot, aTenant } from '../support/snapshot.ts'
import { connectToVault } from '../support/vaults.ts'

const HOUR = 3_600_000

describe('a client certificate', () => {
  let vault: VaultDouble
  let keysAndStore: KeysAndStore
  let connection: ReturnType<typeof connectToVault>
  let leases: Leases
  let records: string[]
  let pki: LeasedSecrets
  const now = (): number => Date.now()
  beforeEach(async () => {
    vault = await startVaultDouble()
    keysAndStore = await startGround()
    connection = connectToVault(vault)
    records = []
    pki = createVaultPki({ id: 'vault', mount: 'pki', session: connection.session, clock: { now }, making: 5000 })
    leases = new Leases({
      store: keysAndStore.store.leases,
      envelope: keysAndStore.envelope,
      backendOf: (id) => (id === 'vault/pki' ? pki : undefined),
      isVoid: () => false,
      isWanted: () => true,
      clock: { now },
      random: createSystemRandom(),
      logger: silentLogger,
      audit: {
        append: ({ event }) => {
          records.push(event)
          return Promise.resolve()
        },
      },
    })
  })
  afterEach(async () => {
    await leases.close()
    await connection.close()
    await keysAndStore.close()
    await vault.close()
  })

  const aDownstream = (given: object = {}): Downstream =>
    downstreamSchema.parse({
      downstream: 'orders',
      credential: 'mtls_certificate',
      backend: 'vault',
      role: 'client',
      common_name: '{server}.{tenant}.clients.example',
      uri_prefix: 'spiffe://example.com',
      ...given,
    })
  const obtain = (over: Partial<CredentialRequest> = {}, given: object = {}) =>
    createMtlsCertificateConnector({
      leases,
      engineOf: (id) => (id === 'vault/pki' ? pki : undefined),
      clock: { now },
    }).obtain({
      principal: { kind: 'user', tenant: 'acme', user: 'alice' },
      tenant: aTenant(),
      server: aServer(),
      downstream: aDownstream(given),
      scopes: [],
      notAfter: Infinity,
      audiences: [],
      priorActors: [],
      ancestors: [],
      correlationId: 'c',
      ...over,
    })
  const user = (name: string): Partial<CredentialRequest> => ({
    principal: { kind: 'user', tenant: 'acme', user: name },
  })
  const codeOf = (work: Promise<unknown>): Promise<string> =>
    work.then(
      () => 'obtained',
      (error: { code: string }) => error.code,
    )
  const wishes = () => [...vault.certificates.values()].map(({ wish }) => wish)

  it('is for this user and server, with its key and chain, and is kept under a lease', async () => {
    const { token, grant, expiresAt } = await obtain({}, { lifetime: '30m' })
    const {
      certificate,
      private_key: key,
      ca_chain: chain,
    } = JSON.parse(token.reveal()) as { certificate: string; private_key: string; ca_chain: string[] }
    const read = new X509Certificate(certificate)
    expect([
      read.subject,
      read.checkPrivateKey(createPrivateKey(key)),
      read.checkIssued(new X509Certificate(chain[0]!)),
    ]).toEqual(['CN=notes.acme.clients.example', true, true])
    expect(wishes()).toEqual([
      {
        common_name: 'notes.acme.clients.example',
        exclude_cn_from_sans: true,
        format: 'pem',
        private_key_format: 'pkcs8',
        uri_sans: 'spiffe://example.com/tenant/acme/server/notes/user/alice',
        ttl: '1800s',
      },
    ])
    expect(expiresAt).toBeLessThanOrEqual(now() + HOUR / 2)
    expect(await leases.list({ id: grant! })).toMatchObject([
      { tenant: 'acme', user: 'alice', server: 'notes', downstream: 'orders', backend: 'vault/pki' },
    ])
    expect(records).toEqual(['lease.begin'])
  })

  it('promise 2: that is revoked is revoked at Vault, by its serial number, and the next is another one', async () => {
    const first = await obtain()
    expect((await obtain()).grant).toBe(first.grant)
    expect(await leases.end([{ tenant: 'acme', user: 'alice' }])).toMatchObject([
      { lease: first.grant, upstream: 'done' },
    ])
    expect([...vault.certificates.values()].map(({ revoked }) => revoked)).toEqual([true])
    expect((await obtain()).token.reveal()).not.toBe(first.token.reveal())
    expect(vault.certificates.size).toBe(2)
  })

  it('promise 8: each user, and the server itself, has one of their own, and no name can be read as another', async () => {
    for (const over of [
      user('alice'),
      user('bob'),
      user('bob/server/other'),
      { principal: { kind: 'workload', tenant: 'acme', server: 'notes' } } as const,
    ])
      await obtain(over)
    expect(
      wishes().map(({ uri_sans: uri }) => String(uri).replace('spiffe://example.com/tenant/acme/server/notes', '')),
    ).toEqual(['/user/alice', '/user/bob', '/user/bob%2Fserver%2Fother', ''])
    const named = { common_name: '{user}.clients.example' }
    for (const name of ['a b', 'a,CN=admin', '*', '.a', 'ü', 'x'.repeat(64)])
      expect([name.slice(0, 9), await codeOf(obtain(user(name), named))]).toEqual([
        name.slice(0, 9),
        'secret_backend_refused',
      ])
    expect(await codeOf(obtain({ principal: { kind: 'workload', tenant: 'acme', server: 'notes' } }, named))).toBe(
      'target_unknown',
    )
    expect(wishes()).toHaveLength(4)
  })

  it('fault 52, promise 5: what Vault refuses is said to admins in its words; nothing secret is in a story', async () => {
    await expect(obtain({}, { common_name: '{server}.elsewhere.example' })).rejects.toMatchObject({
      code: 'secret_backend_refused',
      message: expect.not.stringContaining('not allowed') as string,
      facts: { answered: expect.stringContaining('not allowed by this role') as string },
    })
    const { auditNote, token } = await obtain()
    expect(auditNote).not.toContain('PRIVATE KEY')
    expect(JSON.stringify(await leases.list({}))).not.toContain(
      (JSON.parse(token.reveal()) as { private_key: string }).private_key.slice(40, 80),
    )
    expect(kinds.mtls_certificate.narrows(aDownstream(), undefined)).toEqual([])
  })

  it('is wanted as long as files speak of it', async () => {
    await obtain()
    const [lease] = await leases.list({})
    const withDownstream = (downstream: Downstream) => ({
      ...aSnapshot({ servers: [aServer({ downstreams: { orders: { scopes: [] } } })] }),
      downstreams: new Map([['orders', downstream]]),
    })
    expect([
      isLeaseWanted(withDownstream(aDownstream()), lease!),
      isLeaseWanted(withDownstream(aDownstream({ role: 'other' })), lease!),
      isLeaseWanted(aSnapshot(), lease!),
    ]).toEqual([true, false, false])
  })
})
