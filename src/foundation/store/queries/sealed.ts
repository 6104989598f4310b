import { sql, type RawBuilder } from 'kysely'
import { OWN_TENANT, type RecordName } from '#foundation/crypto'
import type { Database } from '../schema.ts'
import { authorizationRecordName } from '../records/authorization-records.ts'
import { backendTokenName } from '../records/backend-tokens.ts'
import { clientRecordName } from '../records/clients.ts'
import { clientSessionName } from '../records/client-sessions.ts'
import { grantRecordName } from '../records/grants.ts'
import { leaseRecordName } from '../records/leases.ts'
import { rotationRecordName } from '../records/rotations.ts'
import type { SealedStore } from '../records/sealed.ts'

/** A ciphertext is `version (1) | key id (8) | …`, counted from 1 in both databases. */
const KEY_ID = sql`substr(sealed, 2, 8)`

interface Sealed {
  readonly sealed: Uint8Array
  readonly key: readonly (string | number)[]
}

/** A table with sealed records: how a record of it is named, and what else a write of it has to say. */
interface Place {
  readonly table: string
  readonly columns: readonly string[]
  readonly nameOf: (key: readonly (string | number)[]) => Pick<RecordName, 'kind' | 'id'>
  /** Counts the writes: an earlier reader of the record must not write back what was sealed before. */
  readonly counter?: string
  /** Which records must not be written now. */
  readonly unless?: (now: number) => RawBuilder<boolean>
  /** Without a tenant of its own: everything in it is Deputy's. */
  readonly own?: true
}

const places: readonly Place[] = [
  {
    table: 'secrets',
    columns: ['name', 'version'],
    nameOf: ([name, version]) => ({ kind: 'secret', id: `${name}#${version}` }),
  },
  // The node that refreshes it writes the new tokens, and no other node must write in between.
  {
    table: 'grants',
    columns: ['id', 'user', 'server', 'downstream'],
    nameOf: ([id, user, server, downstream]) =>
      grantRecordName({
        tenant: '',
        id: String(id),
        user: String(user),
        server: String(server),
        downstream: String(downstream),
      }),
    counter: 'version',
    unless: (now) => sql<boolean>`coalesce(refresh_until, 0) > ${now}`,
  },
  {
    table: 'leases',
    columns: ['id', 'user', 'server', 'downstream', 'backend', 'role'],
    nameOf: (key) => {
      const [id, user, server, downstream, backend, role] = key.map(String) as [
        string,
        string,
        string,
        string,
        string,
        string,
      ]
      return leaseRecordName({ tenant: '', id, user, server, downstream, backend, role })
    },
    counter: 'revision',
  },
  {
    table: 'upstream_revocations',
    columns: ['id'],
    nameOf: ([id]) => ({ kind: 'upstream-revocation', id: String(id) }),
  },
  { table: 'attempts', columns: ['kind', 'id'], nameOf: ([kind, id]) => ({ kind: `attempt/${kind}`, id: String(id) }) },
  { table: 'clients', columns: ['id'], nameOf: ([id]) => clientRecordName(String(id)), own: true },
  {
    table: 'client_sessions',
    columns: ['id'],
    nameOf: ([id]) => clientSessionName({ tenant: '', id: String(id) }),
  },
  {
    table: 'authorization_records',
    columns: ['kind', 'id'],
    nameOf: ([kind, id]) => authorizationRecordName({ tenant: '', kind: String(kind), id: String(id) }),
  },
  {
    table: 'sessions',
    columns: ['node', 'uid'],
    nameOf: ([node, uid]) => ({ kind: 'session', id: `${node}/${uid}` }),
  },
  {
    table: 'rotations',
    columns: ['id', 'backend', 'secret', 'rotator', 'target'],
    nameOf: (key) => {
      const [id, backend, secret, rotator, target] = key.map(String) as [string, string, string, string, string]
      return rotationRecordName({ tenant: '', id, backend, secret, rotator, target })
    },
  },
  { table: 'identity_tokens', columns: ['user'], nameOf: ([user]) => ({ kind: 'identity-token', id: String(user) }) },
  { table: 'signing_keys', columns: ['kid'], nameOf: ([kid]) => ({ kind: 'signing-key', id: String(kid) }), own: true },
  {
    table: 'backend_tokens',
    columns: ['accessor', 'backend', 'place'],
    nameOf: ([accessor, backend, place]) =>
      backendTokenName({ accessor: String(accessor), backend: String(backend), place: String(place) }),
    counter: 'revision',
    own: true,
  },
]

/** What the destruction of a tenant removes before its key: where a row of these is, the key was not destroyed. */
const LASTING = ['secrets', 'grants'] as const

export const sealedStore = (database: Database): SealedStore => ({
  async under(tenant, keys, limit) {
    const ids = sql.join(keys.map((key) => Buffer.from(key, 'hex')))
    for (const { table, columns, nameOf, own } of places) {
      if (own === true && tenant !== OWN_TENANT) continue
      const { rows } = await sql<Record<string, string | number | Uint8Array>>`
        select ${sql.join(columns.map((column) => sql.ref(column)))}, sealed from ${sql.table(table)}
        where ${KEY_ID} in (${ids}) ${own === true ? sql`` : sql`and tenant = ${tenant}`} limit ${limit}`.execute(
        database,
      )
      const found = rows.map((row): Sealed => ({
        sealed: row['sealed'] as Uint8Array,
        key: columns.map((column) => row[column] as string | number),
      }))
      if (found.length > 0)
        return found.map(({ sealed, key }) => ({ table, key, sealed, name: { ...nameOf(key), tenant } }))
    }
    return []
  },
  async has(tenant) {
    for (const table of LASTING) {
      const { rows } = await sql`select 1 from ${sql.table(table)} where tenant = ${tenant} limit 1`.execute(database)
      if (rows.length > 0) return true
    }
    return false
  },
  async replace({ table, key, sealed, name: { tenant } }, next, now) {
    const { columns, counter, unless, own } = places.find((place) => place.table === table)!
    const { numAffectedRows } = await sql`
      update ${sql.table(table)} set sealed = ${next} ${counter === undefined ? sql`` : sql`, ${sql.ref(counter)} = ${sql.ref(counter)} + 1`}
      where sealed = ${sealed} and ${sql.join(
        columns.map((column, at) => sql`${sql.ref(column)} = ${key[at]}`),
        sql` and `,
      )}
      ${own === true ? sql`` : sql`and tenant = ${tenant}`} ${unless === undefined ? sql`` : sql`and not (${unless(now)})`}`.execute(
      database,
    )
    return numAffectedRows === 1n
  },
})
