import { Client } from 'pg'
import { createIncarnations } from '../../src/foundation/cluster/incarnation.ts'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ACCESS_TOKEN, TOKEN_EXCHANGE } from '../support/daemon.ts'
import { canCluster, startCluster, within, type ClusterNode } from '../support/cluster.ts'

const LEASE = 1500
const SKEW = 300

/** What a stalled node may need to come back: its connections have to be given up and made anew (ms). */
const RECOVERY = 15_000

describe.skipIf(!canCluster())('three nodes', () => {
  let cluster: Awaited<ReturnType<typeof startCluster>>
  let [a, b, c]: ClusterNode[] = []
  beforeAll(async () => {
    cluster = await startCluster({ lease: `${LEASE}ms`, skew: `${SKEW}ms` })
    ;[a, b, c] = [...cluster.nodes]
    await cluster.give(['alice', 'bob', 'carol', 'dave', 'erin', 'frank', 'grace'], { lifetime: 3_600_000 })
  })
  afterAll(async () => {
    await cluster?.close()
  })

  const revoke = async (node: ClusterNode, user: string) => {
    const began = performance.now()
    const { status, body } = await node.admin('/revoke', { scope: { kind: 'user', tenant: 'acme', user } })
    expect(status).toBe(200)
    return {
      milliseconds: performance.now() - began,
      nodes: body['nodes'] as { acknowledged: number; expired: string[] },
    }
  }
  const answers = async (
    user: string,
    nodes = cluster.nodes,
    how: 'exchange' | 'mint' = 'exchange',
  ): Promise<unknown[]> =>
    (await Promise.all(nodes.map((node) => node[how](user)))).map(({ status, body }) =>
      status === 200 ? 'given' : body['reason'],
    )
  const GIVEN = ['given', 'given', 'given']
  const REVOKED = ['revoked', 'revoked', 'revoked']
  const well = async (user: string): Promise<void> => {
    await expect.poll(() => answers(user), { timeout: RECOVERY, interval: 100 }).toEqual(GIVEN)
  }

  it('promise 4: what is revoked at one is refused by all as soon as that has returned', async () => {
    await well('alice')
    const { nodes } = await revoke(a!, 'alice')
    expect(nodes).toMatchObject({ acknowledged: 2, expired: [] })
    expect(await answers('alice')).toEqual(REVOKED)
    expect(await answers('bob')).toEqual(GIVEN)
  })

  it('fault 9: a user is known at every node by what another has written down, and a name that is not known is refused', async () => {
    expect((await a!.mint('ursula')).status).toBe(200)
    const order = (user: string) => b!.admin('/revoke', { scope: { kind: 'user', tenant: 'acme', user } })
    expect((await order('Ursula')).body).toMatchObject({
      reason: 'user_unknown',
      error_description: expect.stringContaining("Did you mean 'ursula'?") as string,
    })
    expect((await c!.mint('ursula')).status).toBe(200)
    expect((await order('ursula')).status).toBe(200)
    expect((await c!.mint('ursula')).body['reason']).toBe('revoked')
  })

  it('fault 5, promise 4: a token of an issuer whose clock is ahead, and that is seen after the revocation, is refused by all', async () => {
    const ahead = await cluster.issuer.sign({
      aud: 'https://notes.example/mcp',
      org: 'acme',
      sub: 'oscar',
      iat: Math.floor(Date.now() / 1000) + 25,
    })
    expect((await a!.mint('oscar')).status).toBe(200)
    await revoke(b!, 'oscar')
    for (const node of cluster.nodes) {
      const { body } = await node.daemon.token({
        grant_type: TOKEN_EXCHANGE,
        subject_token: ahead,
        subject_token_type: ACCESS_TOKEN,
        audience: 'ledger',
        scope: 'ledger:read',
      })
      expect(body['reason']).toBe('revoked')
    }
  })

  it('fault 6, promise 4: the token of a grant that the store has no more is in the cache of no node', async () => {
    await cluster.give(['ida'], { lifetime: 3_600_000 })
    expect(await answers('ida')).toEqual(GIVEN)
    const client = new Client({
      host: '127.0.0.1',
      port: cluster.postgres.port,
      database: cluster.database,
      user: 'deputy',
      password: cluster.postgres.password,
    })
    await client.connect()
    await client.query("delete from grants where id = 'grant-ida'")
    await client.end()
    expect(await answers('ida')).toEqual(['interaction_required', 'interaction_required', 'interaction_required'])
  })

  it('promise 4: a node that is cut off serves no longer when the revocation returns, and all the others when the line is whole', async () => {
    await well('bob')
    c!.toPostgres.stall()
    const { milliseconds, nodes } = await revoke(a!, 'bob')
    expect(nodes).toMatchObject({ acknowledged: 1, expired: ['c'] })
    expect(milliseconds).toBeLessThan(LEASE + SKEW + 300)
    expect(await answers('bob', [a!, b!])).toEqual(['revoked', 'revoked'])
    const cutOff = await within(5000, c!.exchange('bob'))
    expect(cutOff?.status).not.toBe(200)
    expect((await c!.ready()).status).toBe(503)
    // What was on its way comes late; it is not too late for the truth.
    c!.toPostgres.heal()
    await well('carol')
    expect(await answers('bob')).toEqual(REVOKED)
  })

  it('promise 4: a node that sleeps longer than its lease hands out nothing when it wakes', async () => {
    await well('carol')
    b!.daemon.process.kill('SIGSTOP')
    const asked = Array.from({ length: 20 }, () => b!.exchange('carol'))
    const { nodes } = await revoke(a!, 'carol')
    expect(nodes.expired).toEqual(['b'])
    b!.daemon.process.kill('SIGCONT')
    expect((await Promise.all(asked)).filter(({ status }) => status === 200)).toEqual([])
    await well('dave')
    expect(await answers('carol')).toEqual(REVOKED)
  })

  it('promise 4: a node that was killed is waited for until its lease is over, and comes back knowing', async () => {
    await well('dave')
    await c!.daemon.stop('SIGKILL')
    const { nodes, milliseconds } = await revoke(b!, 'dave')
    expect(nodes.expired).toEqual(['c'])
    // Fault 105: whatever it was in the middle of.
    expect(milliseconds).toBeLessThan(LEASE + SKEW + 300)
    await c!.daemon.start()
    expect(await answers('dave')).toEqual(REVOKED)
  })

  it('promise 4, threat 15: a user who is disabled, and a tenant that is frozen, get nothing from any node', async () => {
    await well('erin')
    expect((await a!.admin('/users/disable', { tenant: 'acme', user: 'erin' })).body['nodes']).toMatchObject({
      acknowledged: 2,
    })
    expect(await answers('erin')).toEqual(['subject_user_disabled', 'subject_user_disabled', 'subject_user_disabled'])
    await a!.admin('/users/enable', { tenant: 'acme', user: 'erin' })
    await well('erin')
    expect((await b!.admin('/tenants/freeze', { tenant: 'acme', reason: 'audit' })).body['nodes']).toMatchObject({
      acknowledged: 2,
    })
    expect(await answers('erin')).toEqual(['subject_tenant_frozen', 'subject_tenant_frozen', 'subject_tenant_frozen'])
    await c!.admin('/tenants/thaw', { tenant: 'acme' })
    await well('erin')
  })

  it("promise 4: a trusted issuer's users, and everything, can be revoked at once", async () => {
    await well('frank')
    const words = async (): Promise<unknown[]> =>
      (await Promise.all(cluster.nodes.map((node) => node.mint('frank')))).map(({ body }) => body['error_description'])
    const issuer = expect.stringContaining(`issuer ${cluster.issuer.url}`) as string
    const everything = expect.stringContaining('everything') as string
    expect((await a!.admin('/revoke', { scope: { kind: 'issuer', issuer: cluster.issuer.url } })).status).toBe(200)
    expect(await answers('frank')).toEqual(REVOKED)
    expect(await words()).toEqual([issuer, issuer, issuer])
    // That who signs in later is served again is shown with a clock of its own (test/subject), because issuers' clocks may be 30 seconds ahead.
    await b!.admin('/revoke', { scope: { kind: 'everything' } })
    expect(await words()).toEqual([everything, everything, everything])
  })

  it('promise 3: the chain of every node holds, and a story is found from any node', async () => {
    const { body: verified } = await a!.admin('/audit/verify')
    expect(verified).toMatchObject({ ok: true, nodes: ['a', 'b', 'c'] })
    const refused = await c!.exchange('alice')
    const told = await a!.daemon.deputy('explain', String(refused.body['correlation_id']))
    expect(told.out).toContain('alice')
  })

  it('fault 103: a node ends with a sentence and exit code 8 when a younger daemon has its name, not for a row that was forged', async () => {
    const client = new Client({
      host: '127.0.0.1',
      port: cluster.postgres.port,
      database: cluster.database,
      user: 'deputy',
      password: cluster.postgres.password,
    })
    await client.connect()
    const now = Date.now() + 1000
    const younger = (id: string) =>
      client.query(`insert into nodes (id, about, lease_until, seen, started_at) values ($1, 'c', $2, 0, $3)`, [
        id,
        now + 60_000,
        now,
      ])
    // Who can write the store, and has no key, ends no daemon.
    await younger('c/forged')
    await expect.poll(() => c!.daemon.output(), { timeout: 10_000 }).toContain('not written by this installation')
    await expect.poll(async () => (await c!.ready()).status, { timeout: 10_000 }).toBe(200)
    expect(c!.daemon.process.exitCode).toBeNull()
    await younger(createIncarnations('c', await cluster.fingerprint()).idOf(now, 'younger'))
    await expect.poll(() => c!.daemon.process.exitCode, { timeout: 10_000 }).toBe(8)
    expect(c!.daemon.output()).toContain('Another daemon has started as the node c on this store')
    await client.query(`delete from nodes where about = 'c'`)
    await client.end()
  })
})
