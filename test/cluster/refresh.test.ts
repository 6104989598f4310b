import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { askRedis } from '../peers/redis.ts'
import { canCluster, startCluster, within, type ClusterNode } from '../support/cluster.ts'
import type { Answer } from '../support/daemon.ts'

describe.skipIf(!canCluster())('three nodes that refresh', () => {
  let cluster: Awaited<ReturnType<typeof startCluster>>
  let nodes: readonly ClusterNode[]
  beforeAll(async () => {
    cluster = await startCluster()
    nodes = cluster.nodes
  })
  afterAll(async () => {
    await cluster?.close()
  })
  beforeEach(() => {
    cluster.provider.duringRefresh = () => undefined
  })

  /** Refreshes of the provider's since now. */
  const counted = (): (() => number) => {
    const before = cluster.provider.refreshes.length
    return () => cluster.provider.refreshes.length - before
  }
  /** A node that a busy machine keeps from renewing its lease says `membership_lost`; a client asks again then. */
  const patiently = async (node: ClusterNode, user: string): Promise<Answer> => {
    for (let at = 0; ; at += 1) {
      const answer = await node.exchange(user)
      if (answer.body['reason'] !== 'membership_lost' || at === 50) return answer
      await new Promise((resolve) => {
        setTimeout(resolve, 200)
      })
    }
  }
  const fromAll = (user: string, count: number) =>
    Promise.all(Array.from({ length: count }, (_, at) => patiently(nodes[at % nodes.length]!, user)))

  it('promise 6, threat 20, requirement 25: 1,000 requests at once for one expired grant are one refresh', async () => {
    await cluster.give(['alice'])
    const refreshes = counted()
    cluster.provider.duringRefresh = () =>
      new Promise((resolve) => {
        setTimeout(resolve, 200)
      })
    const given = await fromAll('alice', 1000)
    expect(new Set(given.map(({ status, body }) => `${status} ${String(body['access_token'])}`)).size).toBe(1)
    expect([given[0]!.status, refreshes()]).toEqual([200, 1])
  })

  it('promise 6, threats 20 and 21, requirement 24: whose leader is killed in the middle is tried at most once more', async () => {
    await cluster.give(['bob'])
    const refreshes = counted()
    let held = (): void => undefined
    const begun = new Promise<void>((resolve) => {
      held = resolve
    })
    cluster.provider.duringRefresh = () => {
      held()
      return new Promise((resolve) => {
        setTimeout(resolve, 1000)
      })
    }
    const lost = nodes[0]!.exchange('bob').catch(() => undefined)
    await begun
    const asked = fromAll('bob', 200).catch(() => undefined)
    await nodes[0]!.daemon.stop('SIGKILL')
    await lost
    await within(20_000, asked)
    const answered = await patiently(nodes[1]!, 'bob').catch(() => undefined)
    await nodes[0]!.daemon.start()
    // The provider had rotated: the kept token is the old one, and its second use ends the family (RFC 9700 section 4.14.2).
    expect([answered?.status, answered?.body['reason'], refreshes()]).toEqual([400, 'reconnect_required', 2])
    for (const node of nodes) expect((await patiently(node, 'bob')).body['reason']).toBe('reconnect_required')
    expect(refreshes()).toBe(2)
  })

  it('promise 6, threat 20: a leader that sleeps through its claim finds nothing to write to', async () => {
    await cluster.give(['carol'])
    const refreshes = counted()
    let held = (): void => undefined
    const begun = new Promise<void>((resolve) => {
      held = resolve
    })
    cluster.provider.duringRefresh = () => {
      held()
    }
    const first = nodes[0]!.exchange('carol')
    await begun
    nodes[0]!.daemon.process.kill('SIGSTOP')
    // The second try meets a token that was rotated away; that is what is known of the grant from then on.
    expect((await patiently(nodes[1]!, 'carol')).body['reason']).toBe('reconnect_required')
    nodes[0]!.daemon.process.kill('SIGCONT')
    expect((await first).status).not.toBe(200)
    for (const node of nodes)
      await expect.poll(async () => (await patiently(node, 'carol')).body['reason']).toBe('reconnect_required')
    expect(refreshes()).toBe(2)
  })

  it('fault 3, promise 1: a token that a refresh made broader than the grant is refused at every node', async () => {
    await cluster.give(['wanda'])
    cluster.provider.more = { scope: 'read write admin' }
    for (const node of [nodes[0]!, nodes[0]!, nodes[1]!]) {
      const { status, body } = await patiently(node, 'wanda')
      expect([status, body['reason']]).toEqual([400, 'scope_not_narrowable'])
    }
    cluster.provider.more = {}
  })

  it('a credential that another node has fetched comes out of Redis, where it says nothing to who looks', async () => {
    // The user gave more than is asked for: each narrowed token costs a refresh, unless somebody has it already.
    await cluster.give(['dave'], { lifetime: 3_600_000, scopes: ['read', 'write'] })
    await askRedis(cluster.redis.port, (client) => client.flushall())
    const refreshes = counted()
    const {
      body: { access_token: token },
    } = await patiently(nodes[0]!, 'dave')
    await expect.poll(() => askRedis(cluster.redis.port, (client) => client.dbsize())).toBe(1)
    expect((await patiently(nodes[1]!, 'dave')).body['access_token']).toBe(token)
    expect(refreshes()).toBe(1)
    const [key] = await askRedis(cluster.redis.port, (client) => client.keys('*'))
    const value = await askRedis(cluster.redis.port, (client) => client.getBuffer(key!))
    for (const secret of [String(token), 'dave', 'acme', 'notes-api'])
      for (const text of [key!, value!.toString('latin1')]) expect(text).not.toContain(secret)
    await askRedis(cluster.redis.port, (client) => client.flushall())
    expect((await patiently(nodes[2]!, 'dave')).body['access_token']).not.toBe(token)
    expect(refreshes()).toBe(2)
  })

  it('promise 4: what was shared before a revocation is given by no node after it', async () => {
    await cluster.give(['dora'], { lifetime: 3_600_000, scopes: ['read', 'write'] })
    expect((await patiently(nodes[0]!, 'dora')).status).toBe(200)
    await nodes[1]!.admin('/revoke', { scope: { kind: 'user', tenant: 'acme', user: 'dora' } })
    for (const node of nodes) expect((await patiently(node, 'dora')).body['reason']).toBe('revoked')
    expect(await askRedis(cluster.redis.port, (client) => client.dbsize())).toBeGreaterThan(0)
  })

  it('promise 8, threat 24: what somebody else has put or moved there is not believed', async () => {
    await cluster.give(['erin', 'frank'], { lifetime: 3_600_000 })
    await askRedis(cluster.redis.port, (client) => client.flushall())
    await patiently(nodes[0]!, 'erin')
    const [erin] = await expect
      .poll(() => askRedis(cluster.redis.port, (client) => client.keys('*')))
      .toHaveLength(1)
      .then(() => askRedis(cluster.redis.port, (client) => client.keys('*')))
    await patiently(nodes[0]!, 'frank')
    await expect.poll(() => askRedis(cluster.redis.port, (client) => client.dbsize())).toBe(2)
    const frank = (await askRedis(cluster.redis.port, (client) => client.keys('*'))).find((key) => key !== erin)!
    await askRedis(cluster.redis.port, async (client) => {
      await client.set(frank, (await client.getBuffer(erin!))!)
    })
    const ofErin = (await patiently(nodes[0]!, 'erin')).body['access_token']
    const ofFrank = (await patiently(nodes[0]!, 'frank')).body['access_token']
    expect((await patiently(nodes[1]!, 'frank')).body['access_token']).toBe(ofFrank)
    expect(ofFrank).not.toBe(ofErin)
    await askRedis(cluster.redis.port, (client) => client.set(frank, Buffer.alloc(100_000, 1)))
    expect((await patiently(nodes[2]!, 'frank')).body['access_token']).toBe(ofFrank)
  })

  it('goes on without Redis, says so, and uses it again when it is back', async () => {
    await cluster.give(['grace'], { lifetime: 3_600_000 })
    for (const node of nodes) node.toRedis.cut()
    expect((await Promise.all(nodes.map((node) => patiently(node, 'grace')))).map(({ status }) => status)).toEqual([
      200, 200, 200,
    ])
    const { status, body } = await nodes[0]!.ready()
    expect([status, (body['checks'] as { redis: string }).redis === 'ok']).toEqual([200, false])
    for (const node of nodes) node.toRedis.heal()
    await expect.poll(async () => ((await nodes[0]!.ready()).body['checks'] as { redis: string }).redis).toBe('ok')
    nodes[0]!.toRedis.stall()
    await cluster.give(['heidi'], { lifetime: 3_600_000 })
    expect((await patiently(nodes[0]!, 'heidi')).status).toBe(200)
    nodes[0]!.toRedis.heal()
  })
})
