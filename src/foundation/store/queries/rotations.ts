import type { Selectable } from 'kysely'
import { refuse } from '#errors'
import type { Atomically, Database, Tables } from '../schema.ts'
import type { Rotation, RotationState, RotationStep, RotationStore, RotationTarget } from '../records/rotations.ts'

const fromRow = (row: Selectable<Tables['rotations']>): Rotation => ({
  id: row.id,
  tenant: row.tenant,
  backend: row.backend,
  secret: row.secret,
  policy: row.policy,
  rotator: row.rotator,
  target: row.target,
  reason: row.reason,
  step: row.step as RotationStep,
  state: row.state as RotationState,
  oldVersion: row.old_version,
  newVersion: row.new_version,
  problem: row.problem,
  turnedBack: row.turned_back,
  attempts: Number(row.attempts),
  nextAt: Number(row.next_at),
  graceUntil: row.grace_until === null ? null : Number(row.grace_until),
  startedAt: Number(row.started_at),
  endedAt: row.ended_at === null ? null : Number(row.ended_at),
  owner: row.owner === null ? null : { id: row.owner, until: Number(row.owner_until) },
  revision: Number(row.revision),
})

const toRow = ({
  oldVersion,
  newVersion,
  turnedBack,
  nextAt,
  graceUntil,
  startedAt,
  endedAt,
  owner,
  ...rotation
}: Rotation) => ({
  ...rotation,
  turned_back: turnedBack,
  old_version: oldVersion,
  new_version: newVersion,
  next_at: nextAt,
  grace_until: graceUntil,
  started_at: startedAt,
  ended_at: endedAt,
  owner: owner?.id ?? null,
  owner_until: owner?.until ?? null,
})

const targetFromRow = (row: Selectable<Tables['rotation_targets']>): RotationTarget => ({
  tenant: row.tenant,
  backend: row.backend,
  secret: row.secret,
  policy: row.policy,
  paused: row.paused,
  rotatedAt: row.rotated_at === null ? null : Number(row.rotated_at),
  nextAt: row.next_at === null ? null : Number(row.next_at),
})

/** The targets of rotation: secrets, each with the time of its next rotation. */
const targetStore = (
  database: Database,
): Pick<RotationStore, 'putTarget' | 'target' | 'targets' | 'dueTargets' | 'removeTarget'> => ({
  async putTarget({ rotatedAt, nextAt, ...target }) {
    const row = { ...target, rotated_at: rotatedAt, next_at: nextAt }
    await database
      .insertInto('rotation_targets')
      .values(row)
      .onConflict((conflict) => conflict.columns(['tenant', 'backend', 'secret']).doUpdateSet(row))
      .execute()
  },
  async target({ tenant, backend, secret }) {
    const row = await database
      .selectFrom('rotation_targets')
      .selectAll()
      .where('tenant', '=', tenant)
      .where('backend', '=', backend)
      .where('secret', '=', secret)
      .executeTakeFirst()
    return row === undefined ? undefined : targetFromRow(row)
  },
  async targets() {
    return (
      await database
        .selectFrom('rotation_targets')
        .selectAll()
        .orderBy('tenant')
        .orderBy('backend')
        .orderBy('secret')
        .execute()
    ).map(targetFromRow)
  },
  async dueTargets(now, limit) {
    const rows = await database
      .selectFrom('rotation_targets')
      .selectAll()
      .where('next_at', '<=', now)
      .where('paused', 'is', null)
      .orderBy('next_at')
      .limit(limit)
      .execute()
    return rows.map(targetFromRow)
  },
  async removeTarget({ tenant, backend, secret }) {
    await database
      .deleteFrom('rotation_targets')
      .where('tenant', '=', tenant)
      .where('backend', '=', backend)
      .where('secret', '=', secret)
      .execute()
  },
})

export const rotationStore = (database: Database, atomically: Atomically): RotationStore => ({
  ...targetStore(database),
  async begin(rotation) {
    // The index of open rotations takes one for each secret, whichever node asks first.
    try {
      await atomically([database.insertInto('rotations').values(toRow(rotation)).compile()])
      return true
    } catch (error) {
      if ((error as { code?: string }).code === 'conflict') return false
      throw error
    }
  },
  async update(rotation, sealed) {
    const { id, revision, ...row } = toRow(rotation)
    const kept = sealed === undefined ? {} : { sealed }
    const { numUpdatedRows } = await database
      .updateTable('rotations')
      .set({ ...row, ...kept, revision: revision + 1 })
      .where('id', '=', id)
      .where('revision', '=', revision)
      .executeTakeFirst()
    if (numUpdatedRows !== 1n) throw refuse('conflict', { what: 'rotation' })
    return { ...rotation, revision: revision + 1 }
  },
  async sealedOf(id) {
    const row = await database.selectFrom('rotations').select('sealed').where('id', '=', id).executeTakeFirst()
    return row?.sealed ?? null
  },
  async due(now, limit, claimedUntil) {
    const rows = await database
      .selectFrom('rotations')
      .selectAll()
      .where('ended_at', 'is', null)
      .where('next_at', '<=', now)
      .where((eb) => eb.or([eb('owner_until', 'is', null), eb('owner_until', '<=', claimedUntil)]))
      .orderBy('next_at')
      .limit(limit)
      .execute()
    return rows.map(fromRow)
  },
  async release(name) {
    const prefix = `${name}/`
    await database
      .updateTable('rotations')
      .set({ owner: null, owner_until: null })
      .where((eb) => eb(eb.fn<string>('substr', ['owner', eb.lit(1), eb.lit(prefix.length)]), '=', prefix))
      .execute()
  },
  async open({ tenant, backend, secret }) {
    const row = await database
      .selectFrom('rotations')
      .selectAll()
      .where('tenant', '=', tenant)
      .where('backend', '=', backend)
      .where('secret', '=', secret)
      .where('ended_at', 'is', null)
      .executeTakeFirst()
    return row === undefined ? undefined : fromRow(row)
  },
  async list(filter, limit) {
    let query = database.selectFrom('rotations').selectAll().orderBy('started_at', 'desc').limit(limit)
    for (const column of ['tenant', 'backend', 'secret', 'policy', 'state'] as const) {
      const value = filter[column]
      if (value !== undefined) query = query.where(column, '=', value)
    }
    return (await query.execute()).map(fromRow)
  },
})
