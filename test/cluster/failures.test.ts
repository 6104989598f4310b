import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { canCluster, startCluster, type ClusterNode } from '../support/cluster.ts'
import { runCli } from '../support/process.ts'

/** What a node needs to notice, and to come back (ms). */
const PATIENCE = { interval: 100 }

describe.skipIf(!canCluster())('three nodes whose store fails', () => {
  let cluster: Awaited<ReturnType<typeof startCluster>>
  let [a, b]: ClusterNode[] = []
  beforeAll(async () => {
    cluster = await startCluster({
      lease: '1s',
      skew: '200ms',
      deadline: '1s',
      settings: { limits: { shutdown_delay: '2s' } },
    })
    ;[a, b] = [...cluster.nodes]
  })
  afterAll(async () => {
    await cluster?.close()
  })

  const asAdmin = async (...statements: string[]): Promise<void> => {
    const client = new Client({
      host: '127.0.0.1',
      port: cluster.postgres.port,
      user: 'deputy',
      password: cluster.postgres.password,
      database: cluster.database,
    })
    await client.connect()
    for (const statement of statements) await client.query(statement)
    await client.end()
  }
  /** What readiness says of a node: its status, and its checks as one text. */
  const state = async (node: ClusterNode): Promise<[number, string]> => {
    const { status, body } = await node.ready()
    return [status, JSON.stringify(body['checks'])]
  }
  const isReady = async (node: ClusterNode): Promise<void> => {
    await expect.poll(async () => (await node.ready()).status, PATIENCE).toBe(200)
  }
  const isNotReady = async (node: ClusterNode, words: RegExp): Promise<void> => {
    await expect.poll(async () => (await node.ready()).status, PATIENCE).toBe(503)
    const checks = async () => (await node.ready()).body['checks'] as { readonly store: string; readonly node: string }
    await expect.poll(async () => (await checks()).node, PATIENCE).not.toBe('ok')
    expect((await state(node))[1]).toMatch(words)
    // Fault 107: it knows at once, and says the true reason; readiness asks no store that does not answer. Fault 111: `store` is not ok.
    const began = performance.now()
    const refused = await node.mint('alice')
    expect([refused.status, refused.body['reason'], refused.headers['retry-after'] !== undefined]).toEqual([
      503,
      'membership_lost',
      true,
    ])
    expect((await checks()).store).not.toBe('ok')
    expect(performance.now() - began).toBeLessThan(500)
    await expect.poll(async () => (await node.daemon.deputy('status')).code, PATIENCE).toBe(1)
  }

  const whileSpoiled = async (node: ClusterNode, spoil: () => void, work: () => Promise<void>): Promise<void> => {
    spoil()
    try {
      await work()
    } finally {
      node.toPostgres.heal()
    }
    await isReady(node)
    expect((await node.mint('alice')).status).toBe(200)
  }

  it('faults 107 and 111: lost and back: refuses at once with a time to come back, says so, and goes on by itself', async () => {
    await whileSpoiled(
      a!,
      () => {
        a!.toPostgres.cut()
      },
      async () => {
        await isNotReady(a!, /did not answer/)
        expect((await b!.mint('alice')).status).toBe(200)
      },
    )
  })

  it('slower than its deadline: the same', async () => {
    await whileSpoiled(
      a!,
      () => {
        a!.toPostgres.delay(2200)
      },
      () => isNotReady(a!, /did not answer|in time/),
    )
  })

  it('half-closed: the connections are made anew', async () => {
    await whileSpoiled(
      a!,
      () => {
        a!.toPostgres.halfClose()
      },
      () => isReady(a!),
    )
  })

  it('read-only: nothing is handed out that could not be recorded', async () => {
    await asAdmin('alter system set default_transaction_read_only = on', 'select pg_reload_conf()')
    try {
      for (const node of cluster.nodes) await isNotReady(node, /read-only transaction/)
    } finally {
      await asAdmin(
        'set default_transaction_read_only = off',
        'alter system reset default_transaction_read_only',
        'select pg_reload_conf()',
      )
    }
    for (const node of cluster.nodes) await isReady(node)
    expect((await a!.mint('alice')).status).toBe(200)
  })

  it('killed and started again: nothing that was acknowledged is lost, every chain holds', async () => {
    const acknowledged: string[] = []
    let running = true
    const load = Promise.all(
      cluster.nodes.map(async (node) => {
        while (running) {
          const { status, headers } = await node.mint('alice')
          if (status === 200) acknowledged.push(String(headers['x-correlation-id']))
          // A refusal comes at once: without a pause the clients take the processor from what they wait for.
          await sleep(10)
        }
      }),
    )
    await expect.poll(() => acknowledged.length, PATIENCE).toBeGreaterThan(20)
    await cluster.postgres.kill()
    await sleep(300)
    await cluster.postgres.start()
    for (const node of cluster.nodes) await isReady(node)
    running = false
    await load
    expect((await a!.admin('/audit/verify')).body).toMatchObject({ ok: true })
    const exported = await Promise.all(
      cluster.nodes.map(async ({ name }) => (await a!.daemon.deputy('audit', 'export', '--node', name)).out),
    )
    const recorded = new Set(
      exported
        .join('')
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as { record?: { id: string } }).record?.id),
    )
    expect(acknowledged.filter((id) => !recorded.has(id))).toEqual([])
  })

  it('faults 101 and 104, promises 3 and 4: a store that has lost its last commits gets them again from the nodes, and they say so', async () => {
    for (const user of ['zoe', 'yan', 'xena', 'wim']) expect((await a!.mint(user)).status).toBe(200)
    const goBack = await cluster.postgres.snapshot()
    for (const node of cluster.nodes) await isReady(node)
    expect((await a!.daemon.deputy('status')).code).toBe(0)
    const acknowledged: string[] = []
    expect((await a!.admin('/revoke', { scope: { kind: 'user', tenant: 'acme', user: 'zoe' } })).status).toBe(200)
    expect((await b!.admin('/users/disable', { tenant: 'acme', user: 'yan' })).status).toBe(200)
    for (let n = 0; n < 30; n += 1) {
      const { status, headers } = await cluster.nodes[n % 3]!.mint('wim')
      if (status === 200) acknowledged.push(String(headers['x-correlation-id']))
    }
    await goBack()
    for (const node of cluster.nodes) await isReady(node)
    for (const node of cluster.nodes) {
      expect((await node.mint('zoe')).body['reason']).toBe('revoked')
      expect((await node.mint('yan')).body['reason']).toBe('subject_user_disabled')
    }
    // As many orders as were lost: their numbers were used in the history before.
    for (const user of ['xena', 'wim']) {
      expect((await b!.admin('/revoke', { scope: { kind: 'user', tenant: 'acme', user } })).status).toBe(200)
      for (const node of cluster.nodes) expect((await node.mint(user)).body['reason']).toBe('revoked')
    }
    const recorded = new Set<unknown>()
    for (const { name } of cluster.nodes)
      for (const line of (await a!.daemon.deputy('audit', 'export', '--node', name)).out.trim().split('\n'))
        recorded.add((JSON.parse(line) as { record?: { id: string } }).record?.id)
    expect(acknowledged).toHaveLength(30)
    expect(acknowledged.filter((id) => !recorded.has(id))).toEqual([])
    expect((await a!.admin('/audit/verify')).body).toMatchObject({ ok: true, losses: [] })
    const status = await a!.daemon.deputy('status')
    expect([status.code, status.out]).toEqual([1, expect.stringContaining('the store has lost') as string])
    const losses = await a!.daemon.deputy('store', 'losses')
    expect(losses.out).toContain('user zoe of acme')
    expect(losses.out).toMatch(/yan of acme[^]*audit records: \d+ written again, none gone/)
    const [, ids = ''] = /deputy store acknowledge (.+)/.exec(losses.out) ?? []
    expect((await a!.daemon.deputy('store', 'acknowledge', ...ids.split(' '))).out).toMatch(/Acknowledged: [123]\.$/m)
    expect((await b!.daemon.deputy('status')).code).toBe(0)
  })

  it('a rolling restart under load fails no request of a client that tries once more elsewhere', async () => {
    let [running, sent, retried] = [true, 0, 0]
    const turns = Array.from({ length: 6 }, () => 0)
    const failures: string[] = []
    const tried = (node: ClusterNode): Promise<string> =>
      node.mint('alice').then(
        ({ status, text }) => (status === 200 ? 'given' : `${status} ${text}`),
        (error: unknown) => String(error),
      )
    const load = Promise.all(
      Array.from({ length: 6 }, async (_, client) => {
        for (let turn = client; running; turn += 1) {
          sent += 1
          turns[client]! += 1
          // Many requests in each second of the restart, and not all that two cores can answer.
          await sleep(10)
          if ((await tried(cluster.nodes[turn % 3]!)) === 'given') continue
          retried += 1
          const second = await tried(cluster.nodes[(turn + 1) % 3]!)
          if (second !== 'given') failures.push(second)
        }
      }),
    )
    for (const node of cluster.nodes) {
      const stopping = node.daemon.stop('SIGTERM')
      // It says that it is not ready before it stops serving.
      await expect.poll(async () => (await node.ready()).status, { interval: 10, timeout: 2000 }).toBe(503)
      expect((await node.mint('alice')).status).toBe(200)
      await stopping
      await node.daemon.start()
      // A client that is still between its two tries would find another node gone.
      const before = [...turns]
      await expect.poll(() => turns.every((turn, client) => turn > before[client]!), { interval: 10 }).toBe(true)
    }
    running = false
    await load
    expect(failures).toEqual([])
    expect(sent).toBeGreaterThan(200)
    expect(retried).toBeLessThan(sent / 2)
  })

  it('fault 110: a node that decides by other files is named by the others, with what differs and since when', async () => {
    const same = async (node: ClusterNode): Promise<string> =>
      (JSON.parse((await node.daemon.deputy('status', '--json')).out) as { checks: { same_configuration: string } })
        .checks.same_configuration
    expect([await same(a!), await same(b!)]).toEqual(['ok', 'ok'])
    const [policy, tenant] = ['policies/access/more.cedar', 'tenants/more.yaml']
    await b!.daemon.write({
      [policy]: '@id("more") forbid (principal, action, resource) when { context.environment == "x" };',
    })
    expect((await b!.daemon.deputy('reload')).code).toBe(0)
    expect(await same(a!)).toMatch(
      /^the node b has other access policies, since \d{4}-\S+; give all nodes the same files$/,
    )
    expect(await same(b!)).toContain('the node a has other access policies')
    await b!.daemon.write({ [tenant]: { tenant: 'more' } })
    expect((await b!.daemon.deputy('reload')).code).toBe(0)
    expect(await same(a!)).toContain(
      'has other tenants, servers, downstreams, providers, clients, APIs or rotation policies and other',
    )
    for (const file of [policy, tenant]) await rm(join(b!.daemon.home, file))
    expect((await b!.daemon.deputy('reload')).code).toBe(0)
    expect(await same(a!)).toBe('ok')
  })

  it('a wrong password and a newer schema end the start with a sentence', async () => {
    // The store comes before all that a second daemon of this home could not have: b runs on beside it.
    const home = b!.daemon.home
    await b!.daemon.write({ 'postgres-password': 'wrong' })
    // On a busy machine the store may be too slow to say so.
    let wrong = await runCli(home, ['serve'])
    for (let attempt = 1; attempt < 5 && /timeout|in time/.test(wrong.err); attempt += 1)
      wrong = await runCli(home, ['serve'])
    expect([wrong.code, wrong.out + wrong.err]).toEqual([1, expect.stringContaining('28P01') as string])
    expect(wrong.out + wrong.err).not.toContain('wrong"')
    await b!.daemon.write({ 'postgres-password': cluster.postgres.password })
    await asAdmin('insert into schema_version (version) values (99)')
    const newer = await runCli(home, ['serve'])
    expect([newer.code, newer.err]).toEqual([1, expect.stringContaining('newer Deputy') as string])
    expect((await runCli(home, ['store', 'status'])).out).toContain('schema 99')
    await asAdmin('delete from schema_version where version = 99')
    const { out } = await runCli(home, ['store', 'status'])
    expect(out).toContain('as this program needs it')
    expect(out).toContain('Durability: no standby is connected')
    expect((await runCli(home, ['store', 'migrate'])).out).toContain('already')
    await isReady(b!)
  })
})
