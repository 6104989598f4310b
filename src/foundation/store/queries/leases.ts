import { sql, type Selectable } from 'kysely'
import { refuse } from '#errors'
import type { Atomically, Database, Tables } from '../schema.ts'
import type { Lease, LeaseStore } from '../records/leases.ts'

const fromRow = (row: Selectable<Tables['leases']>): Lease => ({
  id: row.id,
  tenant: row.tenant,
  user: row.user === '' ? null : row.user,
  server: row.server,
  downstream: row.downstream,
  backend: row.backend,
  role: row.role,
  state: row.state as Lease['state'],
  external: row.external,
  sealed: row.sealed,
  duration: Number(row.duration),
  createdAt: Number(row.created_at),
  renewedAt: Number(row.renewed_at),
  usedAt: Number(row.used_at),
  expiresAt: Number(row.expires_at),
  nextAt: Number(row.next_at),
  attempts: Number(row.attempts),
  problem: row.problem,
  revision: Number(row.revision),
  parent: row.parent,
})

const toRow = ({ user, createdAt, renewedAt, usedAt, expiresAt, nextAt, ...lease }: Lease) => ({
  ...lease,
  user: user ?? '',
  created_at: createdAt,
  renewed_at: renewedAt,
  used_at: usedAt,
  expires_at: expiresAt,
  next_at: nextAt,
})

export const leaseStore = (database: Database, atomically: Atomically): LeaseStore => ({
  async begin(lease) {
    // The index takes one for each owner and what it asks for, whichever node asks first.
    try {
      await atomically([database.insertInto('leases').values(toRow(lease)).compile()])
      return true
    } catch (error) {
      if ((error as { code?: string }).code === 'conflict') return false
      throw error
    }
  },
  async find({ tenant, user, server, downstream, backend, role }) {
    const row = await database
      .selectFrom('leases')
      .selectAll()
      .where('tenant', '=', tenant)
      .where('user', '=', user ?? '')
      .where('server', '=', server)
      .where('downstream', '=', downstream)
      .where('backend', '=', backend)
      .where('role', '=', role)
      // In the query's text: SQLite takes no partial index for what a parameter might be (https://www.sqlite.org/partialindex.html).
      .where('state', '<>', sql.lit('ending'))
      .executeTakeFirst()
    return row === undefined ? undefined : fromRow(row)
  },
  async update(lease) {
    const { id, revision, used_at: _, ...row } = toRow(lease)
    const { numUpdatedRows } = await database
      .updateTable('leases')
      .set({ ...row, revision: revision + 1 })
      .where('id', '=', id)
      .where('revision', '=', revision)
      .executeTakeFirst()
    if (numUpdatedRows !== 1n) throw refuse('conflict', { what: 'lease' })
    return { ...lease, revision: revision + 1 }
  },
  async touch(id, at) {
    await database.updateTable('leases').set({ used_at: at }).where('id', '=', id).where('used_at', '<', at).execute()
  },
  async remove(id) {
    await database.deleteFrom('leases').where('id', '=', id).execute()
  },
  async due(now, limit) {
    return (
      await database
        .selectFrom('leases')
        .selectAll()
        .where('next_at', '<=', now)
        .orderBy('next_at')
        .limit(limit)
        .execute()
    ).map(fromRow)
  },
  async hasParent(parent) {
    const row = await database
      .selectFrom('leases')
      .select('id')
      .where('parent', '=', parent)
      .limit(1)
      .executeTakeFirst()
    return row !== undefined
  },
  async list(filter) {
    let query = database.selectFrom('leases').selectAll().orderBy('tenant').orderBy('created_at').orderBy('id')
    for (const column of ['tenant', 'user', 'server', 'downstream', 'id', 'state', 'parent'] as const) {
      const value = filter[column]
      if (value !== undefined) query = query.where(column, '=', value)
    }
    return (await query.execute()).map(fromRow)
  },
})
