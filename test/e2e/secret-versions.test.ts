/** When `deputy secret set` has returned there is one answer: the new version, at every node and for every kind. */
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { downstreamSchema } from '../../src/config/downstream.ts'
import { secretsNamedIn } from '../../src/credentials/secret/versions.ts'
import { canCluster, startClusterHere, type ClusterNode } from '../support/cluster.ts'
import { aCompany, RESOURCES } from '../support/configuration.ts'
import {
  ACCESS_TOKEN,
  ask,
  startDaemonHere,
  startTestIssuer,
  TOKEN_EXCHANGE,
  type DaemonHere,
  type RunningDaemon,
  type TestIssuer,
} from '../support/daemon.ts'

const KINDS = ['mail', 'key', 'login'] as const
const FILES = {
  'downstreams/key.yaml': { downstream: 'key', credential: 'api_key', secret: 'the-key', tenants: '*' },
  'downstreams/login.yaml': { downstream: 'login', credential: 'basic', secret: 'the-login', tenants: '*' },
  'policies/access/kept.cedar': `
@id("kept-for-everybody")
permit (principal is Deputy::User, action in [Deputy::Action::"static", Deputy::Action::"api_key", Deputy::Action::"basic"], resource);`,
}
const DOWNSTREAMS = Object.fromEntries(KINDS.map((kind) => [kind, { scopes: [] }]))
const SECRETS = { mail: 'mail-key', key: 'the-key', login: 'the-login' }
const valueOf = (kind: (typeof KINDS)[number], version: number): string =>
  kind === 'login' ? `{"username":"u","password":"v${version}"}` : `v${version}`

const set = async (daemon: RunningDaemon, version: number): Promise<void> => {
  for (const kind of KINDS) {
    const { status } = await ask(
      { socketPath: join(daemon.home, 'run/admin.sock') },
      {
        path: '/secrets',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ tenant: 'acme', name: SECRETS[kind], value: valueOf(kind, version) }),
      },
    )
    expect(status).toBe(200)
  }
}
const remove = async (daemon: RunningDaemon): Promise<void> => {
  for (const kind of KINDS) {
    const { status } = await ask(
      { socketPath: join(daemon.home, 'run/admin.sock') },
      {
        path: '/secrets/remove',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ tenant: 'acme', name: SECRETS[kind] }),
      },
    )
    expect(status).toBe(200)
  }
}
const given = async (daemon: RunningDaemon, issuer: TestIssuer, user: string): Promise<unknown[]> =>
  Promise.all(
    KINDS.map(async (audience) => {
      const { body } = await daemon.token({
        grant_type: TOKEN_EXCHANGE,
        subject_token: await issuer.sign({ aud: RESOURCES.notes, org: 'acme', sub: user }),
        subject_token_type: ACCESS_TOKEN,
        audience,
      })
      return body['access_token'] ?? body
    }),
  )
const version = (number: number): unknown[] => KINDS.map((kind) => valueOf(kind, number))

it('fault 8: every place of a file that names a secret is found', () => {
  const named = (file: object): unknown[] => secretsNamedIn(downstreamSchema.parse(file)).map(({ secret }) => secret)
  const client = { client_id: 'deputy', client_secret: { secret: 'client-secret' } }
  expect(named({ downstream: 'd', credential: 'static', secret: 'one' })).toEqual(['one'])
  expect(named({ downstream: 'd', credential: 'client_credentials', provider: 'p', client })).toEqual(['client-secret'])
  expect(
    named({
      downstream: 'd',
      credential: 'jwt_bearer',
      provider: 'p',
      client,
      assertion: { key: { secret: 'a-key' } },
    }),
  ).toEqual(expect.arrayContaining(['client-secret', 'a-key']))
  expect(named({ downstream: 'd', credential: 'static', secret: 'one', backend: 'vault' })).toEqual(['one'])
})

describe('a daemon of its own', () => {
  let issuer: TestIssuer
  let daemon: RunningDaemon
  beforeAll(async () => {
    issuer = await startTestIssuer()
    daemon = await startDaemonHere({
      ...aCompany({ issuer: issuer.url, notes: { downstreams: DOWNSTREAMS } }),
      ...FILES,
    })
  })
  afterAll(async () => {
    await daemon?.close()
    await issuer?.close()
  })

  it('fault 8: everybody gets the new version once the command has returned, also after a restart', async () => {
    await set(daemon, 1)
    expect(await given(daemon, issuer, 'alice')).toEqual(version(1))
    await set(daemon, 2)
    expect(await given(daemon, issuer, 'alice')).toEqual(version(2))
    expect(await given(daemon, issuer, 'bob')).toEqual(version(2))
    await daemon.stop()
    await daemon.start()
    expect(await given(daemon, issuer, 'alice')).toEqual(version(2))
    await set(daemon, 3)
    expect(await given(daemon, issuer, 'alice')).toEqual(version(3))
  })

  it('fault 8: what was removed is handed out no more, and a secret that is set again is the new one', async () => {
    await remove(daemon)
    expect(await given(daemon, issuer, 'alice')).toEqual(
      KINDS.map(() => expect.objectContaining({ error: expect.anything() })),
    )
    // Versions are counted from one again: once as often as before the removal.
    for (const number of [11, 12, 13]) {
      await set(daemon, number)
      expect(await given(daemon, issuer, 'alice')).toEqual(version(number))
    }
  })
})

describe.skipIf(!canCluster())('three nodes', () => {
  let cluster: Awaited<ReturnType<typeof startClusterHere>>
  let nodes: readonly ClusterNode<DaemonHere>[]
  beforeAll(async () => {
    cluster = await startClusterHere({ files: { ...FILES }, notes: { downstreams: DOWNSTREAMS } })
    nodes = cluster.nodes
  })
  afterAll(async () => {
    await cluster?.close()
  })

  it('fault 8: every node gives the new version once the command has returned at one', async () => {
    await set(nodes[0]!.daemon, 1)
    for (const { daemon } of nodes) expect(await given(daemon, cluster.issuer, 'alice')).toEqual(version(1))
    await set(nodes[1]!.daemon, 2)
    for (const { daemon } of nodes) expect(await given(daemon, cluster.issuer, 'alice')).toEqual(version(2))
  })
})
