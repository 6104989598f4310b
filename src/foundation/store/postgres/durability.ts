import type { ClientBase, Pool } from 'pg'

/** What a server says about its standbys. */
export interface Standbys {
  /** `synchronous_standby_names` (https://www.postgresql.org/docs/current/runtime-config-replication.html). */
  readonly names: string
  /** Standbys that are connected. */
  readonly connected: number
  /** Those that commits wait for; null where the role may not see it. */
  readonly synchronous: number | null
}

/** Whether a fail-over loses what was confirmed, and what follows from that. */
export interface Durability {
  readonly state: 'alone' | 'asynchronous' | 'synchronous' | 'fragile' | 'hanging'
  readonly sentence: string
}

/** What a server's standbys mean for what Deputy has confirmed; docs/cluster.md says what to run. */
export const judgeStandbys = ({ names, connected, synchronous }: Standbys): Durability => {
  if (names === '')
    return connected === 0
      ? {
          state: 'alone',
          sentence:
            'no standby is connected: a restart loses nothing, and Deputy hands out nothing while the server is away; whether a managed server has a standby of its own, its provider says',
        }
      : {
          state: 'asynchronous',
          sentence: `${connected} asynchronous standby(s): a fail-over loses the last commits, revocations among them; set synchronous_standby_names = 'ANY 1 (...)' with two standbys (docs/cluster.md)`,
        }
  if (connected === 0 || synchronous === 0)
    return {
      state: 'hanging',
      sentence: `synchronous_standby_names is ${names}, and no such standby is connected: commits hang, and Deputy hands out nothing`,
    }
  return connected === 1
    ? {
        state: 'fragile',
        sentence:
          'synchronous, with one standby: a fail-over loses nothing, and commits hang while that standby is away; add a second one (ANY 1)',
      }
    : { state: 'synchronous', sentence: `synchronous, with ${connected} standbys: a fail-over loses nothing` }
}

/** As far as the role may see: without `pg_monitor` the state of a standby is not told, and neither is a server's that hides them. */
const STANDBYS = `select current_setting('synchronous_standby_names') as names, count(pid)::int as connected,
    case when bool_or(sync_state is null) or count(pid) = 0 then null
      else (count(*) filter (where sync_state in ('sync', 'quorum')))::int end as synchronous
  from pg_stat_replication`

/** Asks a server about its standbys. @throws what the driver throws */
export const readDurability = async (connection: Pool | ClientBase): Promise<Durability> => {
  const { rows } = await connection.query<{ names: string; connected: number; synchronous: number | null }>(STANDBYS)
  return judgeStandbys(rows[0]!)
}
