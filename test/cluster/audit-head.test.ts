/** The owner of the database changes the audit log: what the nodes know of its ends finds each change. */
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { DaemonHere } from '../support/daemon.ts'
import { canCluster, startClusterHere, type ClusterNode } from '../support/cluster.ts'

const ATTACKS = {
  'the last record': [
    'delete from audit_records where node = $1 and seq = (select max(seq) from audit_records where node = $1)',
  ],
  'the last record with its checkpoint': [
    'delete from audit_records where node = $1 and seq = (select max(seq) from audit_records where node = $1)',
    'delete from audit_checkpoints where node = $1 and seq = (select max(seq) from audit_checkpoints where node = $1)',
  ],
  'the last checkpoints': ['delete from audit_checkpoints where node = $1'],
  'a whole chain': ['delete from audit_records where node = $1', 'delete from audit_checkpoints where node = $1'],
} as const

describe.skipIf(!canCluster())('who owns the database of the audit log', () => {
  let cluster: Awaited<ReturnType<typeof startClusterHere>>
  let owner: Client
  let [a, b]: ClusterNode<DaemonHere>[] = []
  const verify = async (node = a!) => (await node.admin('/audit/verify')).body

  beforeAll(async () => {
    cluster = await startClusterHere()
    ;[a, b] = [...cluster.nodes]
    owner = new Client({
      host: '127.0.0.1',
      port: cluster.postgres.port,
      database: cluster.database,
      user: 'deputy',
      password: cluster.postgres.password,
    })
    await owner.connect()
    for (const node of [a!, b!]) expect((await node.mint('alice')).status).toBe(200)
    // A node that stops signs where its chain ends, and keeps that beside the keys.
    await b!.daemon.stop()
    await owner.query('create table kept_records as select * from audit_records where node = $1', ['b'])
    await owner.query('create table kept_checkpoints as select * from audit_checkpoints where node = $1', ['b'])
  })
  afterAll(async () => {
    await owner?.end()
    await cluster?.close()
  })

  const putBack = async (): Promise<void> => {
    for (const table of ['records', 'checkpoints']) {
      await owner.query(`delete from audit_${table} where node = $1`, ['b'])
      await owner.query(`insert into audit_${table} select * from kept_${table}`)
    }
  }

  for (const [what, statements] of Object.entries(ATTACKS))
    it(`promise 3: removes ${what} of a node, and another node finds it`, async () => {
      expect(await verify()).toMatchObject({ ok: true })
      for (const statement of statements) await owner.query(statement, ['b'])
      const found = await verify()
      await putBack()
      expect(found).toMatchObject({
        ok: false,
        problem: { why: expect.stringMatching(/of the node b: .*(removed|cut off)/) as string },
      })
    })

  it('promise 3: puts an older copy back, which a start finds and no later record hides', async () => {
    await owner.query(
      'delete from audit_records where node = $1 and seq > (select min(seq) from audit_checkpoints where node = $1) - 1',
      ['b'],
    )
    await owner.query('delete from audit_checkpoints where node = $1', ['b'])
    await b!.daemon.start()
    expect(b!.daemon.output()).toContain('a signed audit record is missing in the store')
    for (let count = 0; count < 12; count += 1) expect((await b!.mint('alice')).status).toBe(200)
    expect((await b!.admin('/status')).body['checks']).toMatchObject({
      audit: expect.stringContaining('deputy audit verify') as string,
    })
    expect((await b!.ready()).status).toBe(200)
    expect((await b!.daemon.deputy('status')).code).toBe(1)
    expect(await verify(b)).toMatchObject({
      ok: false,
      problem: { why: expect.stringMatching(/another record|removed/) as string },
    })
    expect((await b!.admin('/audit/acknowledge', { reason: 'the store was restored' })).body).toEqual({
      acknowledged: 1,
    })
    expect(await verify(b)).toMatchObject({ ok: true })
    const { rows } = await owner.query(`select 1 from audit_records where node = 'b' and event = 'audit.acknowledge'`)
    expect(rows).toHaveLength(1)
  })
})
