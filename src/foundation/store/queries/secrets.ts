import type { CompiledQuery, ExpressionBuilder, Selectable } from 'kysely'
import type { Atomically, Database, Tables } from '../schema.ts'
import type { SecretStage } from '../records/secrets.ts'
import type { SecretStore, StoredSecret } from '../records/secrets.ts'

const fromRow = (row: Selectable<Tables['secrets']>): StoredSecret => ({
  tenant: row.tenant,
  name: row.name,
  version: Number(row.version),
  stage: row.stage as SecretStage | null,
  sealed: row.sealed,
  createdAt: Number(row.created_at),
  token: row.token,
})

type Existence = ExpressionBuilder<Tables, 'secrets'>

/**
 * The statements of a promotion, in one transaction. Each asks again whether the version can be promoted and whether the current one
 * is the expected one, so that all of them act or none does.
 */
const promotion = (
  database: Database,
  {
    tenant,
    name,
    version,
    expected,
  }: { readonly tenant: string; readonly name: string; readonly version: number; readonly expected: number | null },
): CompiledQuery[] => {
  const versions = () => database.updateTable('secrets').where('tenant', '=', tenant).where('name', '=', name)
  const existing = ({ selectFrom }: Existence) =>
    selectFrom('secrets as other')
      .select('other.version')
      .where('other.tenant', '=', tenant)
      .where('other.name', '=', name)
  const inStage = (eb: Existence, number: number, stages: readonly SecretStage[]) =>
    eb.exists(existing(eb).where('other.version', '=', number).where('other.stage', 'in', stages))
  const isCandidate = (eb: Existence) => inStage(eb, version, ['pending', 'previous'])
  const isExpected = (eb: Existence) =>
    expected === null
      ? eb.not(eb.exists(existing(eb).where('other.stage', '=', 'current')))
      : inStage(eb, expected, ['current'])
  // A stage holds one version: the one that is replaced has no stage until the other has taken its place.
  return [
    database
      .deleteFrom('secrets')
      .where('tenant', '=', tenant)
      .where('name', '=', name)
      .where('stage', '=', 'previous')
      .where('version', '!=', version)
      .where(isCandidate)
      .where(isExpected)
      .compile(),
    versions().where('stage', '=', 'current').where(isCandidate).where(isExpected).set({ stage: null }).compile(),
    versions()
      .where('version', '=', version)
      .where('stage', 'in', ['pending', 'previous'])
      .where((eb) => eb.not(eb.exists(existing(eb).where('other.stage', '=', 'current'))))
      .where((eb) =>
        expected === null
          ? eb.lit(true)
          : eb.exists(existing(eb).where('other.version', '=', expected).where('other.stage', 'is', null)),
      )
      .set({ stage: 'current' })
      .compile(),
    ...(expected === null
      ? []
      : [
          versions()
            .where('version', '=', expected)
            .where('stage', 'is', null)
            .where((eb) => inStage(eb, version, ['current']))
            .set({ stage: 'previous' })
            .compile(),
        ]),
  ]
}

export const secretStore = (database: Database, atomically: Atomically): SecretStore => ({
  async find(tenant, name, stage) {
    const row = await database
      .selectFrom('secrets')
      .selectAll()
      .where('tenant', '=', tenant)
      .where('name', '=', name)
      .where('stage', '=', stage)
      .executeTakeFirst()
    return row === undefined ? undefined : fromRow(row)
  },
  async list(tenant) {
    const query = database.selectFrom('secrets').selectAll().orderBy('tenant').orderBy('name').orderBy('version')
    return (await (tenant === undefined ? query : query.where('tenant', '=', tenant)).execute()).map(fromRow)
  },
  async nextVersion(tenant, name) {
    const row = await database
      .selectFrom('secrets')
      .select(({ fn }) => fn.max('version').as('last'))
      .where('tenant', '=', tenant)
      .where('name', '=', name)
      .executeTakeFirst()
    return Number(row?.last ?? 0) + 1
  },
  async putCurrent({ tenant, name, version, sealed, createdAt, token }) {
    const ofSecret = () => database.updateTable('secrets').where('tenant', '=', tenant).where('name', '=', name)
    await atomically([
      ofSecret().where('stage', '=', 'previous').set({ stage: null }).compile(),
      ofSecret().where('stage', '=', 'current').set({ stage: 'previous' }).compile(),
      database
        .insertInto('secrets')
        .values({ tenant, name, version, stage: 'current', sealed, created_at: createdAt, token })
        .compile(),
    ])
  },
  async putPending({ tenant, name, version, sealed, createdAt, token }) {
    // One version a stage: the index says no to a second one that is pending.
    await atomically([
      database
        .insertInto('secrets')
        .values({ tenant, name, version, stage: 'pending', sealed, created_at: createdAt, token })
        .compile(),
    ])
  },
  async promote(tenant, name, version, expected) {
    await atomically(promotion(database, { tenant, name, version, expected }))
  },
  async removeVersion(tenant, name, version, stage) {
    await database
      .deleteFrom('secrets')
      .where('tenant', '=', tenant)
      .where('name', '=', name)
      .where('version', '=', version)
      .where('stage', '=', stage)
      .execute()
  },
  async remove({ tenant, name }) {
    const query = database.deleteFrom('secrets').where('tenant', '=', tenant)
    return Number(
      (await (name === undefined ? query : query.where('name', '=', name)).executeTakeFirst()).numDeletedRows,
    )
  },
})
