/** Somebody who can write the database, and has no key: what they change makes them nobody and undoes no order. */
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { emptyChain, link } from '../../src/foundation/audit/format/chain.ts'
import { LOGIN_SESSION_TOKEN, LOGIN_SESSION_TOKEN_TYPE } from '../../src/flows/exchange/request.ts'
import { paths } from '../../src/listeners/http/metadata.ts'
import { aKeyPair, ask, TOKEN_EXCHANGE, type Answer, type DaemonHere } from '../support/daemon.ts'
import { canCluster, startClusterHere, type ClusterNode } from '../support/cluster.ts'

describe.skipIf(!canCluster())('who can write the store', () => {
  let cluster: Awaited<ReturnType<typeof startClusterHere>>
  let attacker: Client
  let [a, b]: ClusterNode<DaemonHere>[] = []
  const restart = async (): Promise<void> => {
    for (const node of [a!, b!]) await node.daemon.stop()
    for (const node of [a!, b!]) await node.daemon.start()
  }
  const jwks = async (node: ClusterNode<DaemonHere>): Promise<Record<string, unknown>[]> =>
    (await ask({ socketPath: node.daemon.socketPath }, { path: paths.jwks })).body['keys'] as Record<string, unknown>[]
  const reason = ({ status, body }: Answer): unknown => (status === 200 ? 'given' : body['reason'])

  beforeAll(async () => {
    cluster = await startClusterHere({
      notes: {
        login_session: true,
        downstreams: { ledger: { scopes: ['ledger:read'] }, 'notes-api': { scopes: ['read'] } },
      },
    })
    ;[a, b] = [...cluster.nodes]
    await cluster.give(['alice', 'victor', 'dora', 'erin'], { lifetime: 3_600_000 })
    attacker = new Client({
      host: '127.0.0.1',
      port: cluster.postgres.port,
      database: cluster.database,
      user: 'deputy',
      password: cluster.postgres.password,
    })
    await attacker.connect()
  })
  afterAll(async () => {
    await attacker?.end()
    await cluster?.close()
  })

  it(
    'fault 12: publishes no key, takes no grant, makes no session and undoes no order',
    { timeout: 180_000 },
    async () => {
      const honest = await jwks(a!)
      expect(reason(await a!.exchange('alice'))).toBe('given')
      expect(reason(await a!.exchange('dora'))).toBe('given')
      for (const [path, order] of [
        ['/revoke', { scope: { kind: 'user', tenant: 'acme', user: 'dora' } }],
        ['/users/disable', { tenant: 'acme', user: 'erin' }],
        ['/users/disable', { tenant: 'acme', user: 'victor' }],
        ['/users/enable', { tenant: 'acme', user: 'victor' }],
      ] as const)
        expect((await a!.admin(path, order)).status).toBe(200)

      // Two of their grants of the same downstream change hands: alice's becomes mallory's.
      await attacker.query(`update grants set "user" = 'mallory' where id = 'grant-alice'`)
      await attacker.query('update signing_keys set public_jwk = $1', [
        JSON.stringify({ ...aKeyPair().jwk, use: 'sig' }),
      ])
      await attacker.query(
        `insert into sessions (node, uid, tenant, "user", issuer, groups, claims, signed_in_at, expires_at)
       values ('a', $1, 'acme', 'victor', $2, '["engineering"]', '{}', $3, $4)`,
        [process.getuid!(), cluster.issuer.url, Date.now(), Date.now() + 3_600_000],
      )
      const { rowCount } = await attacker.query('delete from revocations')
      await attacker.query('delete from disabled_users')
      // Running nodes read it all anew at the next change.
      expect((await a!.admin('/users/disable', { tenant: 'acme', user: 'alice' })).status).toBe(200)
      for (const node of [a!, b!]) expect(reason(await node.exchange('erin'))).toBe('subject_user_disabled')
      // A chain of their own, which is as whole as any other, says that erin was enabled.
      const forged = link(emptyChain({ installation: 'another', node: 'forged' }), {
        record: { id: 'forged', event: 'user.enable', outcome: 'done', tenant: 'acme', user: 'erin' },
        detail: '{"by":"admin"}',
        at: Date.now(),
      })
      await attacker.query(
        `insert into audit_records (node, seq, id, at, event, outcome, tenant, "user", body, hash)
       values ('forged', $1, $2, $3, $4, $5, $6, $7, $8, $9)`,
        [
          forged.seq,
          forged.id,
          forged.at,
          forged.event,
          forged.outcome,
          forged.tenant,
          forged.user,
          forged.body,
          forged.hash,
        ],
      )
      expect(rowCount).toBeGreaterThan(0)
      await restart()

      for (const node of [a!, b!]) {
        expect(await jwks(node)).toEqual(honest)
        expect(reason(await node.exchange('mallory'))).not.toBe('given')
        expect(reason(await node.exchange('dora'))).toBe('revoked')
        expect(reason(await node.exchange('erin'))).toBe('subject_user_disabled')
        expect(reason(await node.exchange('victor'))).toBe('given')
      }
      expect(a!.daemon.output() + b!.daemon.output()).toMatch(/was missing in the store and was restored/)
      const session = await a!.daemon.token({
        grant_type: TOKEN_EXCHANGE,
        subject_token: LOGIN_SESSION_TOKEN,
        subject_token_type: LOGIN_SESSION_TOKEN_TYPE,
        audience: 'ledger',
      })
      expect(session.body['reason']).toBe('subject_session_missing')
      // The chain that they wrote has a node of its own, and does not begin as this installation's chains do.
      expect((await a!.admin('/audit/verify')).body).toMatchObject({
        ok: false,
        problem: { seq: 1, why: expect.stringContaining('of the node forged') as string },
      })
    },
  )
})
