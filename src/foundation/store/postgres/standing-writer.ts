import { sql } from 'kysely'
import type { Pool } from 'pg'
import { standingWriter, type StandingWriter } from '../queries/revocations.ts'
import { STANDING, type Atomically, type Database } from '../schema.ts'
import { CHANNEL } from './listener.ts'
import { toStoreError } from './pool.ts'

/**
 * Changes of the standing on Postgres, told to the nodes when they are durable. What adds a row is one statement, and so
 * one round trip and one transaction: the change that takes the next number has the row of the numbers until it is
 * committed. A removal is a statement by itself after that row is taken: within one statement it would not see what was
 * committed while it waited.
 * @param randomText draws a text that was never drawn before, in SQL
 */
export const createStandingWriter = (
  { database, atomically, pool }: { database: Database; atomically: Atomically; pool: Pool },
  randomText: string,
): StandingWriter => ({
  write: standingWriter(database, atomically, {
    randomText,
    notify: [sql`select pg_notify(${CHANNEL}, '')`.compile(database)],
  }).write,
  async add(insertion) {
    const { sql: text, parameters } = sql`with place as (
        update epochs set value = value + 1, token = ${sql.raw(randomText)} where name = ${STANDING} returning value, token),
      history as (insert into standing_history (number, token) select value, token from place),
      change as (${insertion(sql<number>`(select value from place)`)})
      select value, token, pg_notify(${CHANNEL}, '') from place`.compile(database)
    try {
      const { rows } = await pool.query<{ value: string; token: string }>(text, [...parameters])
      return { number: Number(rows[0]!.value), token: rows[0]!.token }
    } catch (error) {
      throw toStoreError(error)
    }
  },
})
