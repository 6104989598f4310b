import { describe, expect, it } from 'vitest'
import type { AuditRecord } from '../../src/foundation/audit/record.ts'
import { downstreamSchema } from '../../src/config/downstream.ts'
import { createRates } from '../../src/foundation/cache/rates.ts'
import type { Snapshot } from '../../src/config/snapshot.ts'
import { ACCESS_TOKEN_TYPE } from '../../src/oauth/token-type.ts'
import { Secret } from '../../src/foundation/crypto/secret.ts'
import { createExchange } from '../../src/flows/exchange/exchange.ts'
import { refuse } from '../../src/errors.ts'
import { noTelemetry } from '../../src/foundation/telemetry/telemetry.ts'
import { RevocationIndex } from '../../src/identity/validity/revocation-index.ts'
import { aClock, aServer, aSnapshot, aTenant } from '../support/snapshot.ts'

const clock = aClock()
const downstream = (given: object = {}) =>
  downstreamSchema.parse({
    downstream: 'ledger',
    credential: 'minted',
    resource: 'https://ledger.example',
    scopes: { read: 'Read' },
    ...given,
  })
const server = (given: object = {}) => aServer({ downstreams: { ledger: { scopes: ['read'] } }, ...given })
const world = (given: { server?: object; downstream?: object; tenant?: object } = {}): Snapshot => ({
  ...aSnapshot({ servers: [server(given.server)], tenants: [aTenant(given.tenant)] }),
  downstreams: new Map([['ledger', downstream(given.downstream)]]),
})

/** An exchange whose record waits for `whileWaiting` before it is durable. */
const exchangeDuring = async (
  whileWaiting: (change: (snapshot: Snapshot) => void, revocationIndex: RevocationIndex, loseLease: () => void) => void,
) => {
  let current = world()
  const revocationIndex = new RevocationIndex([], [])
  const records: AuditRecord[] = []
  const tenant = aTenant()
  let leaseLost = false
  const exchange = createExchange({
    snapshot: () => current,
    revocationIndex,
    membership: {
      catchUp: () => Promise.resolve(),
      assertHeld() {
        if (leaseLost) throw refuse('membership_lost', { node: 'one', problem: 'test', seconds: 1 })
      },
    },
    clock,
    telemetry: noTelemetry,
    attest: async () => ({ server: server(), method: 'unix' }),
    subjects: {
      verify: async () => ({
        tenant,
        user: 'alice',
        issuer: 'i',
        groups: [],
        claims: {},
        how: 'jwt',
        issuedAt: clock.now() - 1000,
        earliestIssue: clock.now() - 1000,
        expiresAt: clock.now() + 60_000,
        tokenId: 't',
        ancestors: [],
        actors: [],
      }),
      fromSession: () => Promise.reject(new Error('not used')),
    },
    policy: () => ({ readsTime: false, decide: ({ scopes }) => ({ allowed: true, scopes, policies: [], errors: [] }) }),
    obtain: async () => ({
      cached: false,
      obtainedAt: clock.now(),
      credential: {
        token: new Secret('x'),
        issuedTokenType: ACCESS_TOKEN_TYPE,
        tokenType: 'Bearer',
        scopes: ['read'],
        expiresAt: clock.now() + 60_000,
        overScoped: false,
        auditNote: '',
      },
    }),
    exec: { isLive: () => true, leased() {} },
    checkOut: () => Promise.resolve(true),
    checkProof: () => Promise.reject(new Error('not used')),
    rates: createRates({ rates: () => current.settings.rates }),
    audit: {
      async append(record) {
        if (records.push(record) === 1) {
          clock.forward(5)
          whileWaiting(
            (snapshot) => {
              current = snapshot
            },
            revocationIndex,
            () => {
              leaseLost = true
            },
          )
        }
      },
    },
  })
  const answer = await exchange
    .exchange(
      { correlationId: 'c', evidence: {} },
      { audiences: ['ledger'], resources: [], subjectToken: new Secret('s'), subjectTokenType: ACCESS_TOKEN_TYPE },
    )
    .then(
      () => 'issued',
      (error: { code: string }) => error.code,
    )
  return { answer, outcomes: records.map(({ outcome }) => outcome) }
}

describe('what changes while a request waits for its record', () => {
  it('threats 15 and 19: a user, server, tenant or downstream that is disabled meanwhile gets nothing', async () => {
    const changes: Record<string, Parameters<typeof exchangeDuring>[0]> = {
      subject_user_disabled: (_change, revocationIndex) => {
        revocationIndex.disable({ tenant: 'acme', user: 'alice', at: 1, by: 'admin' })
      },
      revoked: (_change, revocationIndex) => {
        revocationIndex.add({
          id: 'r',
          scope: { kind: 'user', tenant: 'acme', user: 'alice' },
          epoch: clock.now(),
          by: 'admin',
          reason: null,
          forgetAt: null,
        })
      },
      subject_tenant_frozen: (_change, revocationIndex) => {
        revocationIndex.freeze({ tenant: 'acme', at: 1, by: 'admin', reason: null })
      },
      membership_lost: (_change, _standing, loseLease) => {
        loseLease()
      },
      workload_not_approved: (change) => {
        change(world({ server: { status: 'retired' } }))
      },
      workload_unknown: (change) => {
        change({ ...world(), servers: new Map() })
      },
      subject_tenant_unknown: (change) => {
        change(world({ tenant: { enabled: false } }))
      },
      injection_only: (change) => {
        change(
          world({
            downstream: { inject: { hosts: ['https://ledger.example'], as: { header: 'Authorization' }, only: true } },
          }),
        )
      },
      target_unknown: (change) => {
        change(world({ downstream: { enabled: false } }))
      },
    }
    for (const [code, change] of Object.entries(changes))
      expect(await exchangeDuring(change)).toEqual({ answer: code, outcomes: ['issued', 'refused'] })
  })

  it('threat 15: what a file takes from a server meanwhile, or a tenant from either, it does not get', async () => {
    const changes: readonly (readonly [string, Snapshot])[] = [
      ['target_unknown', world({ server: { downstreams: {} } })],
      ['target_unknown', world({ server: { downstreams: {}, service_downstreams: { ledger: { scopes: ['read'] } } } })],
      ['target_unknown', world({ downstream: { tenants: ['globex'] } })],
      ['workload_tenant', world({ server: { tenants: ['globex'] } })],
    ]
    for (const [code, changed] of changes)
      expect(
        await exchangeDuring((change) => {
          change(changed)
        }),
      ).toEqual({ answer: code, outcomes: ['issued', 'refused'] })
  })

  it('a change that takes nothing away refuses nothing', async () => {
    expect(
      await exchangeDuring((change) => {
        change(world({ server: { status: 'deprecated' } }))
      }),
    ).toEqual({ answer: 'issued', outcomes: ['issued'] })
  })
})
