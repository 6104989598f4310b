import type { CompiledQuery } from 'kysely'
import type { Client, Pool, QueryResultRow } from 'pg'
import { toRevocation } from '../queries/revocations.ts'
import type { ClusterStore } from '../records/revocations.ts'
import {
  CHANGES,
  type ChangesRow,
  IN_HISTORY,
  KNOWLEDGE,
  type KnowledgeRow,
  NOW,
  RENEW,
  type RenewRow,
  SERVER,
  toRenewal,
} from './cluster-statements.ts'
import { readDurability } from './durability.ts'
import { CHANNEL, createListener } from './listener.ts'
import { inTransaction, toStoreError } from './pool.ts'

/** Nodes whose lease ended this long ago are removed (ms). */
const NODE_RETENTION_MS = 86_400_000

interface ClusterConnections {
  readonly pool: Pool
  /** Connections for leases and orders of admins only: they must not wait behind requests. */
  readonly leases: Pool
  /** The statements that begin a place in the history above a number. */
  readonly positionAbove: (number: number) => readonly CompiledQuery[]
}

class PostgresCluster implements ClusterStore {
  readonly #pool: Pool
  readonly #leases: Pool
  readonly #positionAbove: ClusterConnections['positionAbove']
  readonly #connect: () => Client

  constructor({ pool, leases, positionAbove }: ClusterConnections, connect: () => Client) {
    this.#pool = pool
    this.#leases = leases
    this.#positionAbove = positionAbove
    this.#connect = connect
  }

  async renew(request: Parameters<ClusterStore['renew']>[0]): ReturnType<ClusterStore['renew']> {
    const { id, about, lease, skew, startedAt, applied, proof, written, token, previous, keepsName } = request
    const claims = [...(applied === undefined ? [] : [applied]), ...written]
    const claimed = JSON.stringify(claims.map((each) => ({ number: each.number, token: each.token })))
    const [row] = await this.#rowsOf<RenewRow>(
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
  }

  async changesSince(
    ...[after, upTo]: Parameters<ClusterStore['changesSince']>
  ): ReturnType<ClusterStore['changesSince']> {
    const places = [after?.number, after?.token, upTo?.number, upTo?.token].map((each) => each ?? null)
    const [row] = await this.#rowsOf<ChangesRow>(CHANGES, places, 'changes')
    const { value, token, server, follows, whole, revocations, disabled, frozen } = row!
    if (!follows || !whole) return undefined
    const last = { number: Number(value), token }
    return { revocations: revocations.map(toRevocation), disabled, frozen, last, server }
  }

  async isInHistory({ number, token }: Parameters<ClusterStore['isInHistory']>[0]): Promise<boolean> {
    return (await this.#rowsOf(IN_HISTORY, [number, token])).length > 0
  }

  async whoKnows(
    ...[change, { except, lease, skew, isProven }]: Parameters<ClusterStore['whoKnows']>
  ): ReturnType<ClusterStore['whoKnows']> {
    const values = [change.number, except, NODE_RETENTION_MS, skew, change.token]
    const found = await this.#rowsOf<KnowledgeRow>(KNOWLEDGE, values, 'who-knows')
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
  }

  async liftNumber(above: number): Promise<void> {
    await inTransaction(this.#leases, async (client) => {
      for (const { sql, parameters } of this.#positionAbove(above)) await client.query(sql, [...parameters])
      await client.query('select pg_notify($1, $2)', [CHANNEL, ''])
    })
  }

  async leave(id: string): Promise<void> {
    await this.#rowsOf(`delete from nodes where id = $1 or lease_until < ${NOW} - $2`, [id, NODE_RETENTION_MS])
    await this.#rowsOf(`delete from store_servers where identity <> ${SERVER} and first_seen < ${NOW} - $1`, [
      NODE_RETENTION_MS,
    ])
  }

  async nodes(): ReturnType<ClusterStore['nodes']> {
    const rows = await this.#rowsOf<{
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
  }

  async describe(id: string, configuration: string): Promise<void> {
    await this.#rowsOf(
      `update nodes set configuration = $2, configured_at = ${NOW} where id = $1 and configuration is distinct from $2`,
      [id, configuration],
    )
  }

  exclusively<T>(name: string, work: () => Promise<T>): Promise<T> {
    return inTransaction(this.#pool, async (client) => {
      await client.query('select pg_advisory_xact_lock(hashtextextended($1, 0))', [name])
      return work()
    })
  }

  async durability(): ReturnType<ClusterStore['durability']> {
    try {
      return await readDurability(this.#pool)
    } catch (error) {
      throw toStoreError(error)
    }
  }

  async now(): Promise<number> {
    return Number((await this.#rowsOf<{ now: string }>(`select ${NOW} as now`))[0]!.now)
  }

  subscribe(changed: Parameters<ClusterStore['subscribe']>[0]): ReturnType<ClusterStore['subscribe']> {
    return createListener(this.#connect, changed)
  }

  /** @param name of a statement that runs so often that each connection prepares it once */
  async #rowsOf<Row extends object>(text: string, values: unknown[] = [], name?: string): Promise<Row[]> {
    try {
      const { rows } = await this.#leases.query<Row & QueryResultRow>({
        text,
        values,
        ...(name === undefined ? {} : { name }),
      })
      return rows
    } catch (error) {
      throw toStoreError(error)
    }
  }
}

/**
 * What the nodes of a cluster know of each other, in PostgreSQL.
 * @param connect a connection outside of the pool, for listening
 */
export const createCluster = (connections: ClusterConnections, connect: () => Client): ClusterStore =>
  new PostgresCluster(connections, connect)
