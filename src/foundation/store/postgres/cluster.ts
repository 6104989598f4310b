import type { CompiledQuery } from 'kysely'
import type { Client, Pool, QueryResultRow } from 'pg'
import { LONGEST_LEASE_MS } from '#config'
import { STANDING } from '../schema.ts'
import { toRevocation } from '../queries/revocations.ts'
import type { ClusterStore, DisabledUser, FrozenTenant, Renewal, RenewalRequest } from '../records/revocations.ts'
import { readDurability } from './durability.ts'
import { CHANNEL, createListener } from './listener.ts'
import { inTransaction, toStoreError } from './pool.ts'

/** The server's own time, also within a long transaction: ms since the epoch. */
const NOW = '(extract(epoch from clock_timestamp()) * 1000)::bigint'

/** Names the process of the server: a standby that is promoted, a copy that is restored and a restart are all another one. */
const SERVER = '(pg_postmaster_start_time()::text)'

/** Nodes whose lease ended so long ago are forgotten (ms). */
const FORGOTTEN = 86_400_000

/**
 * Corrects what a clock of the server that went back, or another writer, has left behind: no lease runs for longer
 * from now than the settings
 * allow, so that a node that is gone is not waited for until that clock comes round again.
 */
const CAP_LEASES = `update nodes set lease_until = ${NOW} + ${LONGEST_LEASE_MS} where lease_until > ${NOW} + ${LONGEST_LEASE_MS}`

/** Rows of one name that are judged at most: two are a mistake, more are forged. */
const MOST_TWINS = 1000

/** The server process under which leases are granted; the first one that a store ever has follows none. */
const NOTE_SERVER = `insert into store_servers (identity, first_seen)
  select ${SERVER}, case when exists (select 1 from store_servers) then ${NOW} else 0 end
  on conflict (identity) do nothing`

/**
 * One statement, so that no lock is held while the network is waited for. The row of the standing is shared by renewals and
 * exclusive for a change: a change either is in the number that is read here, or waits until this lease can be seen.
 */
const RENEW = `with standing as materialized (select value, token from epochs where name = '${STANDING}' for share),
  server as (${NOTE_SERVER} returning first_seen),
  claimed as (select * from jsonb_to_recordset($8::jsonb) as c(number bigint, token text)),
  judged as materialized (select
    (select count(*) from claimed c where not exists (
      select 1 from standing_history h where h.number = c.number and h.token = c.token)) as unknown_changes,
    (cardinality($7::text[]) > 0 and not exists (select 1 from nodes where id = $1 and token = any($7))) as unknown_renewal,
    (select coalesce(array_agg(id), '{}') from (select id from nodes
      where about = $2 and id <> $1 and lease_until + $4 > ${NOW} and not $11 limit ${MOST_TWINS}) n) as twins
    from standing),
  granted as (insert into nodes (id, about, lease_until, seen, seen_token, seen_proof, token, started_at)
    select $1, $2, ${NOW} + $3, $9, $10, $12, $6, coalesce($5::bigint, ${NOW}) from judged
    where unknown_changes = 0 and not unknown_renewal and twins = '{}'
    on conflict (id) do update set lease_until = excluded.lease_until, seen = excluded.seen,
      seen_token = excluded.seen_token, seen_proof = excluded.seen_proof, token = excluded.token
    returning started_at)
  select s.value, s.token, ${NOW} as now, ${SERVER} as server, j.*,
    coalesce((select ${NOW} - first_seen from store_servers where identity = ${SERVER}), ${NOW} - (select first_seen from server), 0) as server_age, (select started_at from granted) as started_at
  from standing s, judged j`

interface RenewRow {
  readonly value: string
  readonly token: string
  readonly now: string
  readonly server: string
  readonly server_age: string
  readonly unknown_changes: string
  readonly unknown_renewal: boolean
  readonly twins: readonly string[]
  readonly started_at: string | null
}

const toRenewal = (row: RenewRow, request: RenewalRequest): Renewal => {
  const common = { now: Number(row.now), server: row.server, serverAge: Math.max(0, Number(row.server_age)) }
  const last = { number: Number(row.value), token: row.token }
  const foreign = { ...common, last, outcome: 'foreign_past' } as const
  if (Number(row.unknown_changes) > 0)
    return {
      ...foreign,
      problem: `this node knows changes up to number ${Math.max(request.applied?.number ?? 0, ...request.written.map(({ number }) => number))} that are not in the store, which is at number ${last.number}`,
    }
  if (row.unknown_renewal) return { ...foreign, problem: 'the last renewal of this node is not in the store' }
  if (row.twins.length > 0) return { ...common, outcome: 'name_shared', by: row.twins }
  return { ...common, last, outcome: 'granted', startedAt: Number(row.started_at) }
}

const IN_HISTORY = 'select 1 from standing_history where number = $1 and token = $2'

/** Rows as one JSON text, in a statement with others: it sees them all at one moment. */
const json = (select: string, order: string): string =>
  `(select coalesce(json_agg(r order by ${order}), '[]') from (${select}) r)`

/**
 * Everything after a change ($1, $2; null: everything), whether that one and another ($3, $4; null: not asked) are in the
 * history, and the last change: one statement, whose columns have names, so that a later schema does not spoil what was
 * prepared.
 */
const CHANGES = `select s.value, s.token, ${SERVER} as server,
    ($1::bigint is null or exists (select 1 from standing_history where number = $1 and token = $2)) as follows,
    ($3::bigint is null or exists (select 1 from standing_history where number = $3 and token = $4)) as whole,
    ${json('select id, scope, epoch, by, reason, forget_at, seq from revocations where seq > coalesce($1, 0)', 'r.seq')} as revocations,
    ${json('select tenant, "user", at, by from disabled_users', 'r.tenant, r.user')} as disabled,
    ${json('select tenant, at, by, reason from frozen_tenants', 'r.tenant')} as frozen
  from epochs s where s.name = '${STANDING}'`

interface ChangesRow {
  readonly value: string
  readonly token: string
  readonly server: string
  readonly follows: boolean
  readonly whole: boolean
  readonly revocations: readonly Parameters<typeof toRevocation>[0][]
  readonly disabled: readonly DisabledUser[]
  readonly frozen: readonly FrozenTenant[]
}

/**
 * Who knows the change that is named by its number ($1) and token ($5), for how long nodes have seen this process of the
 * server (ms), and whether that has the change: in one statement, so that the rows are of this server. A process that was
 * first seen while the clock was ahead counts from now on.
 */
const WHO_KNOWS = `with capped as (${CAP_LEASES}), noted as (${NOTE_SERVER}),
  seen_anew as (update store_servers set first_seen = ${NOW} where identity = ${SERVER} and first_seen > ${NOW})
  select s.age, s.known, n.id, n.about, n.runs, n.knows, n.seen, n.seen_token, n.seen_proof from (select
    coalesce((select ${NOW} - first_seen from store_servers where identity = ${SERVER}), 0) as age,
    exists (select 1 from standing_history where number = $1 and token = $5) as known) s
  left join (select id, about, seen, seen_token, seen_proof, lease_until + $4 > ${NOW} as runs, seen >= $1 and exists (
      select 1 from standing_history h where h.number = seen and h.token = seen_token) as knows
    from nodes where id <> $2 and lease_until > ${NOW} - $3) n on true`

interface KnowledgeRow {
  readonly age: string
  readonly known: boolean
  /** Null in the one row of a store that has no other node. */
  readonly about: string | null
  readonly runs: boolean
  /** Whether the row says so; it counts with its proof. */
  readonly knows: boolean
  readonly id: string
  readonly seen: string
  readonly seen_token: string
  readonly seen_proof: string | null
}

/**
 * @param leases connections for leases and orders of admins alone, which must not wait behind requests
 * @param positionAbove the statements that begin a place in the history above a number
 * @param connect a connection outside of the pool, for listening
 */
export const createCluster = (
  {
    pool,
    leases,
    positionAbove,
  }: { pool: Pool; leases: Pool; positionAbove: (number: number) => readonly CompiledQuery[] },
  connect: () => Client,
): ClusterStore => {
  /** @param name of what is asked so often that each connection prepares it once */
  const rowsOf = async <Row extends object>(text: string, values: unknown[] = [], name?: string): Promise<Row[]> => {
    try {
      return (await leases.query<Row & QueryResultRow>({ text, values, ...(name === undefined ? {} : { name }) })).rows
    } catch (error) {
      throw toStoreError(error)
    }
  }

  return {
    async renew(request) {
      const { id, about, lease, skew, startedAt, applied, proof, written, token, previous, keepsName } = request
      const claims = [...(applied === undefined ? [] : [applied]), ...written]
      const claimed = JSON.stringify(claims.map((each) => ({ number: each.number, token: each.token })))
      const [row] = await rowsOf<RenewRow>(
        RENEW,
        [
          id,
          about,
          lease,
          skew,
          startedAt ?? null,
          token,
          previous,
          claimed,
          applied?.number ?? 0,
          applied?.token ?? null,
          keepsName,
          proof,
        ],
        'renew',
      )
      return toRenewal(row!, request)
    },

    async changesSince(after, upTo) {
      const places = [after?.number, after?.token, upTo?.number, upTo?.token].map((each) => each ?? null)
      const [row] = await rowsOf<ChangesRow>(CHANGES, places, 'changes')
      const { value, token, server, follows, whole, revocations, disabled, frozen } = row!
      if (!follows || !whole) return undefined
      const last = { number: Number(value), token }
      return { revocations: revocations.map(toRevocation), disabled, frozen, last, server }
    },

    async isInHistory({ number, token }) {
      return (await rowsOf(IN_HISTORY, [number, token])).length > 0
    },

    async whoKnows(change, { except, lease, skew, isProven }) {
      const values = [change.number, except, FORGOTTEN, skew, change.token]
      const found = await rowsOf<KnowledgeRow>(WHO_KNOWS, values, 'who-knows')
      const rows = found.map((row) => ({
        ...row,
        knows: row.knows && isProven(row.id, { number: Number(row.seen), token: row.seen_token }, row.seen_proof),
      }))
      const named = (which: (row: KnowledgeRow) => boolean): string[] =>
        rows.flatMap((row) => (row.about !== null && which(row) ? row.about : []))
      const knowledge = {
        acknowledged: named(({ knows, runs }) => knows && runs),
        waiting: named(({ knows, runs }) => !knows && runs),
        expired: named(({ knows, runs }) => !knows && !runs),
      }
      if (knowledge.waiting.length > 0) return { ...knowledge, isLost: false, unsettled: 0 }
      const { known, age } = rows[0]!
      return { ...knowledge, isLost: !known, unsettled: Math.max(0, lease + skew - Number(age)) }
    },

    async liftNumber(above) {
      await inTransaction(leases, async (client) => {
        for (const { sql, parameters } of positionAbove(above)) await client.query(sql, [...parameters])
        await client.query('select pg_notify($1, $2)', [CHANNEL, ''])
      })
    },

    async leave(id) {
      await rowsOf(`delete from nodes where id = $1 or lease_until < ${NOW} - $2`, [id, FORGOTTEN])
      await rowsOf(`delete from store_servers where identity <> ${SERVER} and first_seen < ${NOW} - $1`, [FORGOTTEN])
    },

    async nodes() {
      const rows = await rowsOf<{
        id: string
        about: string
        left: string
        seen: string
        configuration: string | null
        configured_at: string | null
      }>(`select id, about, lease_until - ${NOW} as left, seen, configuration, configured_at from nodes order by about`)
      return rows.map(({ id, about, left, seen, configuration, configured_at: at }) => ({
        id,
        about,
        leaseLeft: Number(left),
        acknowledged: Number(seen),
        configuration,
        configuredAt: at === null ? null : Number(at),
      }))
    },

    async describe(id, configuration) {
      await rowsOf(
        `update nodes set configuration = $2, configured_at = ${NOW} where id = $1 and configuration is distinct from $2`,
        [id, configuration],
      )
    },

    exclusively: (name, work) =>
      inTransaction(pool, async (client) => {
        await client.query('select pg_advisory_xact_lock(hashtextextended($1, 0))', [name])
        return work()
      }),

    async durability() {
      try {
        return await readDurability(pool)
      } catch (error) {
        throw toStoreError(error)
      }
    },

    async now() {
      return Number((await rowsOf<{ now: string }>(`select ${NOW} as now`))[0]!.now)
    },

    subscribe: (changed) => createListener(connect, changed),
  }
}
