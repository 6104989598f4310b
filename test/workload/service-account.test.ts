import type { KeyObject } from 'node:crypto'
import { createLocalJWKSet, SignJWT, UnsecuredJWT, type JSONWebKeySet } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createSystemRandom } from '../../src/clock.ts'
import { noTelemetry } from '../../src/foundation/telemetry/telemetry.ts'
import { createAttestor, type Attest } from '../../src/identity/workload/attest.ts'
import { anIssuerKey } from '../doubles/issuer.ts'
import { startGround, type KeysAndStore } from '../support/keyring.ts'
import { aClock, aServer, aSnapshot, noExecSessions } from '../support/snapshot.ts'

const CLUSTER = 'https://oidc.cluster.example'
const DEPUTY = 'https://deputy.example'
const key = anIssuerKey('cluster')
const rogue = anIssuerKey('cluster')
const keys = { keys: [key.jwk] } as unknown as JSONWebKeySet

let keysAndStore: KeysAndStore
let attest: Attest
const clock = aClock()
beforeAll(async () => {
  keysAndStore = await startGround()
  attest = createAttestor({
    exec: noExecSessions,
    replays: keysAndStore.store.replays,
    unknownCallers: keysAndStore.store.unknownCallers,
    clock,
    random: createSystemRandom(),
    telemetry: noTelemetry,
    audiences: () => [DEPUTY],
    clusterKeys: (issuer) =>
      issuer === CLUSTER ? createLocalJWKSet(keys) : () => Promise.reject(new Error('unknown cluster')),
  })
})
afterAll(async () => {
  await keysAndStore?.close()
})

const account = (given: object = {}): object => ({
  attest: [{ kubernetes: { issuer: CLUSTER, namespace: 'tools', service_account: 'notes', ...given } }],
})
const registered = aSnapshot({
  servers: [
    aServer(account()),
    aServer({ server: 'other', resource: 'urn:other', ...account({ service_account: 'other' }) }),
  ],
})

/** As the kubelet gets it: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#schema-for-service-account-private-claims */
const projected = (claims: object = {}, header: object = {}, signer: KeyObject = key.privateKey): Promise<string> => {
  const now = Math.floor(clock.now() / 1000)
  return new SignJWT({
    iss: CLUSTER,
    sub: 'system:serviceaccount:tools:notes',
    aud: [DEPUTY],
    iat: now,
    nbf: now,
    exp: now + 3600,
    jti: 'a',
    'kubernetes.io': {
      namespace: 'tools',
      serviceaccount: { name: 'notes', uid: '1' },
      pod: { name: 'notes-1', uid: '2' },
      node: { name: 'n', uid: '3' },
    },
    ...claims,
  })
    .setProtectedHeader({ alg: 'ES256', kid: 'cluster', ...header })
    .sign(signer)
}
const outcome = (clientAssertion: string, snapshot = registered, clientId?: string): Promise<string> =>
  attest({ clientAssertion, ...(clientId === undefined ? {} : { clientId }) }, snapshot).then(
    ({ server, method }) => `${server.server} by ${method}`,
    (error: { code: string; facts: { problem?: string } }) => error.code,
  )

describe('attestation by a projected service-account token', () => {
  it('takes the pod for the server that its account stands for, as often as it shows the token', async () => {
    const token = await projected()
    for (let times = 0; times < 3; times += 1) expect(await outcome(token)).toBe('notes by kubernetes')
    expect(await outcome(token, registered, 'notes')).toBe('notes by kubernetes')
    expect(await outcome(token, registered, 'other')).toBe('workload_unknown')
  })

  it('takes nobody for another namespace, account, audience, issuer or time', async () => {
    const now = Math.floor(clock.now() / 1000)
    const other = { namespace: 'tools', serviceaccount: { name: 'other', uid: '1' }, pod: { name: 'p', uid: '2' } }
    for (const [claims, code] of [
      [{ sub: 'system:serviceaccount:other:notes' }, 'workload_unknown'],
      [{ sub: 'system:serviceaccount:tools:nobody' }, 'workload_unknown'],
      [{ iss: 'https://else.example' }, 'workload_unknown'],
      [{ aud: ['https://kubernetes.default.svc'] }, 'workload_unverified'],
      [{ aud: undefined }, 'workload_unverified'],
      [{ exp: now - 60 }, 'workload_unverified'],
      [{ nbf: now + 600 }, 'workload_unverified'],
      [{ exp: undefined }, 'workload_unverified'],
      [{ iat: undefined }, 'workload_unverified'],
      [{ exp: now + 86_401 }, 'workload_unverified'],
      [{ 'kubernetes.io': undefined }, 'workload_unverified'],
      [{ 'kubernetes.io': other }, 'workload_unverified'],
      [{ 'kubernetes.io': { ...other, serviceaccount: { name: 'notes' }, namespace: 'other' } }, 'workload_unverified'],
      [{ 'kubernetes.io': { namespace: 'tools', serviceaccount: { name: 'notes' } } }, 'workload_unverified'],
    ] as const)
      expect([claims, await outcome(await projected(claims))]).toEqual([claims, code])
  })

  it("threat 14: believes no key but the cluster's", async () => {
    expect(await outcome(await projected({}, {}, rogue.privateKey))).toBe('workload_unverified')
    expect(await outcome(await projected({}, { jwk: rogue.jwk }, rogue.privateKey))).toBe('workload_unverified')
    const hmac = await new SignJWT({ iss: CLUSTER, sub: 'system:serviceaccount:tools:notes', aud: DEPUTY })
      .setProtectedHeader({ alg: 'HS256' })
      .setIssuedAt()
      .setExpirationTime('1h')
      .sign(new TextEncoder().encode('x'.repeat(32)))
    expect(await outcome(hmac)).toBe('workload_unverified')
    expect(
      await outcome(
        new UnsecuredJWT({ iss: CLUSTER, sub: 'system:serviceaccount:tools:notes', aud: DEPUTY })
          .setIssuedAt()
          .setExpirationTime('1h')
          .encode(),
      ),
    ).toBe('workload_unverified')
  })

  it('goes by keys in the file where the cluster cannot be reached, and by the audience that the file names', async () => {
    const offline = aSnapshot({ servers: [aServer(account({ jwks: keys, audience: 'deputy' }))] })
    expect([
      await outcome(await projected({ aud: ['deputy'] }), offline),
      await outcome(await projected(), offline),
    ]).toEqual(['notes by kubernetes', 'workload_unverified'])
    const elsewhere = aSnapshot({ servers: [aServer(account({ jwks: { keys: [rogue.jwk] } }))] })
    expect(await outcome(await projected(), elsewhere)).toBe('workload_unverified')
  })

  it('asks which server it is where an account stands for two', async () => {
    const two = aSnapshot({
      servers: [aServer(account()), aServer({ server: 'second', resource: 'urn:second', ...account() })],
    })
    const token = await projected()
    expect([await outcome(token, two), await outcome(token, two, 'second')]).toEqual([
      'workload_ambiguous',
      'second by kubernetes',
    ])
    const replaced = aSnapshot({
      servers: [
        aServer({ ...account(), status: 'retired' }),
        aServer({ server: 'second', resource: 'urn:second', ...account() }),
      ],
    })
    expect(await outcome(token, replaced)).toBe('second by kubernetes')
  })
})
