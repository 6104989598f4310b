/** The statements of cluster membership, and the rows that they return. Each is one statement, so that it sees one moment. */
import { MAX_LEASE_MS } from '#config'
import type { toRevocation } from '../queries/revocations.ts'
import type { DisabledUser, FrozenTenant, Renewal, RenewalRequest } from '../records/revocations.ts'
import { STANDING } from '../schema.ts'

/** The server's own time, also within a long transaction: ms since the epoch. */
export const NOW = '(extract(epoch from clock_timestamp()) * 1000)::bigint'

/** Names the process of the server. It changes with a restart, with the promotion of a standby and with the restore of a copy. */
export const SERVER = '(pg_postmaster_start_time()::text)'

/**
 * Corrects what a clock of the server that went back, or another writer, has left behind: no lease runs for longer
 * from now than the settings
 * allow, so that a node that is gone is not waited for until that clock comes round again.
 */
const CAP_LEASES = `update nodes set lease_until = ${NOW} + ${MAX_LEASE_MS} where lease_until > ${NOW} + ${MAX_LEASE_MS}`

/** Rows of one name that are judged at most: two are a mistake, more are forged. */
const MAX_TWINS = 1000

/** The server process under which leases are granted; the first one that a store ever has follows none. */
const NOTE_SERVER = `insert into store_servers (identity, first_seen)
  select ${SERVER}, case when exists (select 1 from store_servers) then ${NOW} else 0 end
  on conflict (identity) do nothing`

/**
 * One statement, so that no lock is held while the network is waited for. The row of the standing is shared by renewals and
 * exclusive for a change: a change either is in the number that is read here, or waits until this lease can be seen.
 */
export const RENEW = `with standing as materialized (select value, token from epochs where name = '${STANDING}' for share),
  server as (${NOTE_SERVER} returning first_seen),
  claimed as (select * from jsonb_to_recordset($8::jsonb) as c(number bigint, token text)),
  judged as materialized (select
    (select count(*) from claimed c where not exists (
      select 1 from standing_history h where h.number = c.number and h.token = c.token)) as unknown_changes,
    (cardinality($7::text[]) > 0 and not exists (select 1 from nodes where id = $1 and token = any($7))) as unknown_renewal,
    (select coalesce(array_agg(id), '{}') from (select id from nodes
      where about = $2 and id <> $1 and lease_until + $4 > ${NOW} and not $11 limit ${MAX_TWINS}) n) as twins
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

export interface RenewRow {
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

/** The outcome of a renewal. */
export const toRenewal = (row: RenewRow, request: RenewalRequest): Renewal => {
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

export const IN_HISTORY = 'select 1 from standing_history where number = $1 and token = $2'

/** Rows as one JSON text, in a statement with others: it sees them all at one moment. */
const json = (select: string, order: string): string =>
  `(select coalesce(json_agg(r order by ${order}), '[]') from (${select}) r)`

/**
 * Everything after a change ($1, $2; null: everything), whether that one and another ($3, $4; null: not asked) are in the
 * history, and the last change: one statement, whose columns have names, so that a later schema does not spoil what was
 * prepared.
 */
export const CHANGES = `select s.value, s.token, ${SERVER} as server,
    ($1::bigint is null or exists (select 1 from standing_history where number = $1 and token = $2)) as follows,
    ($3::bigint is null or exists (select 1 from standing_history where number = $3 and token = $4)) as whole,
    ${json('select id, scope, epoch, by, reason, forget_at, seq from revocations where seq > coalesce($1, 0)', 'r.seq')} as revocations,
    ${json('select tenant, "user", at, by from disabled_users', 'r.tenant, r.user')} as disabled,
    ${json('select tenant, at, by, reason from frozen_tenants', 'r.tenant')} as frozen
  from epochs s where s.name = '${STANDING}'`

export interface ChangesRow {
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
 * The nodes that know the change of a number ($1) and a token ($5), for how long nodes have seen this process of the
 * server (ms), and whether that has the change: in one statement, so that the rows are of this server. A process that was
 * first seen while the clock was ahead counts from now on.
 */
export const KNOWLEDGE = `with capped as (${CAP_LEASES}), noted as (${NOTE_SERVER}),
  seen_anew as (update store_servers set first_seen = ${NOW} where identity = ${SERVER} and first_seen > ${NOW})
  select s.age, s.known, n.id, n.about, n.runs, n.knows, n.seen, n.seen_token, n.seen_proof from (select
    coalesce((select ${NOW} - first_seen from store_servers where identity = ${SERVER}), 0) as age,
    exists (select 1 from standing_history where number = $1 and token = $5) as known) s
  left join (select id, about, seen, seen_token, seen_proof, lease_until + $4 > ${NOW} as runs, seen >= $1 and exists (
      select 1 from standing_history h where h.number = seen and h.token = seen_token) as knows
    from nodes where id <> $2 and lease_until > ${NOW} - $3) n on true`

export interface KnowledgeRow {
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
