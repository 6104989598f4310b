import type { Client, Pool, PoolClient, QueryResultRow } from 'pg'
import { STANDING } from '../schema.ts'
import { toRevocation } from '../queries/revocations.ts'
import type { ClusterStore, DisabledUser, FrozenTenant, StandingChanges } from '../records/revocations.ts'
import { inTransaction, toStoreError } from './pool.ts'

/** Where changes of the standing are told: https://www.postgresql.org/docs/current/sql-notify.html (when the transaction commits, and not before). */
export const CHANNEL = 'deputy_standing'

/** The server's own time, also within a long transaction: ms since the epoch. */
const NOW = '(extract(epoch from clock_timestamp()) * 1000)::bigint'

/** Nodes whose lease ended so long ago are forgotten (ms). */
const FORGOTTEN = 86_400_000

/** How long after a lost connection the next one is tried (ms); leases go on meanwhile. */
const AGAIN = 500

interface Numbered {
  value: string
  now: string
}

const ms = <Row extends { at: number }>(row: Row): Row => ({ ...row, at: Number(row.at) })

const changesSince = async (client: PoolClient, number: number): Promise<StandingChanges> => ({
  revocations: (
    await client.query<Parameters<typeof toRevocation>[0]>('select * from revocations where seq > $1 order by seq', [
      number,
    ])
  ).rows.map(toRevocation),
  disabled: (
    await client.query<DisabledUser & { at: number }>('select tenant, "user", at, by from disabled_users')
  ).rows.map(ms),
  frozen: (
    await client.query<FrozenTenant & { at: number }>('select tenant, at, by, reason from frozen_tenants')
  ).rows.map(ms),
})

/** @param leases connections for leases alone. @param connect a connection outside of the pool, for listening */
export const createCluster = ({ pool, leases }: { pool: Pool; leases: Pool }, connect: () => Client): ClusterStore => {
  const rowsOf = async <Row extends QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> => {
    try {
      return (await leases.query<Row>(text, values)).rows
    } catch (error) {
      throw toStoreError(error)
    }
  }
  return {
    renew: ({ id, about, lease, acknowledged }) =>
      inTransaction(leases, async (client) => {
        // Shared by renewals, exclusive for a change: a change either is seen here, or waits until this lease can be seen.
        const {
          rows: [standing],
        } = await client.query<Numbered>(`select value, ${NOW} as now from epochs where name = $1 for share`, [
          STANDING,
        ])
        const number = Number(standing!.value)
        const changes = number > acknowledged ? await changesSince(client, acknowledged) : undefined
        await client.query(
          `insert into nodes (id, about, lease_until, seen, started_at) values ($1, $2, ${NOW} + $3, $4, ${NOW})
        on conflict (id) do update set lease_until = excluded.lease_until, seen = excluded.seen`,
          [id, about, lease, acknowledged],
        )
        return { number, now: Number(standing!.now), changes }
      }),

    async whoKnows(number, { except, skew }) {
      const rows = await rowsOf<{ about: string; knows: boolean; runs: boolean }>(
        `select about, seen >= $1 as knows, lease_until + $3 > ${NOW} as runs from nodes where id <> $2 and lease_until > ${NOW} - $4`,
        [number, except, skew, FORGOTTEN],
      )
      const named = (which: (row: { knows: boolean; runs: boolean }) => boolean): string[] =>
        rows.filter(which).map(({ about }) => about)
      return {
        acknowledged: named(({ knows, runs }) => knows && runs),
        waiting: named(({ knows, runs }) => !knows && runs),
        expired: named(({ knows, runs }) => !knows && !runs),
      }
    },

    async leave(id) {
      await rowsOf(`delete from nodes where id = $1 or lease_until < ${NOW} - $2`, [id, FORGOTTEN])
    },

    async nodes() {
      const rows = await rowsOf<{ id: string; about: string; left: string; seen: string }>(
        `select id, about, lease_until - ${NOW} as left, seen from nodes order by about`,
      )
      return rows.map(({ id, about, left, seen }) => ({
        id,
        about,
        leaseLeft: Number(left),
        acknowledged: Number(seen),
      }))
    },

    exclusively: (name, work) =>
      inTransaction(pool, async (client) => {
        await client.query('select pg_advisory_xact_lock(hashtextextended($1, 0))', [name])
        return work()
      }),

    async now() {
      return Number((await rowsOf<{ now: string }>(`select ${NOW} as now`))[0]!.now)
    },

    async subscribe(changed) {
      let closed = false
      let listening: Client | undefined
      let retry: NodeJS.Timeout | undefined
      const listen = async (): Promise<void> => {
        const client = connect()
        client.on('notification', changed)
        client.on('error', () => {
          listening = undefined
          again()
        })
        client.on('end', () => {
          listening = undefined
          again()
        })
        try {
          await client.connect()
          await client.query(`listen ${CHANNEL}`)
          listening = client
          // What was told while nobody listened is found by looking.
          changed()
        } catch {
          await client.end().catch(() => undefined)
          again()
        }
      }
      const again = (): void => {
        if (closed) return
        clearTimeout(retry)
        retry = setTimeout(() => {
          if (listening === undefined && !closed) void listen()
        }, AGAIN)
        retry.unref()
      }
      await listen()
      return async () => {
        closed = true
        clearTimeout(retry)
        await listening?.end()
      }
    },
  }
}
