import {
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type CompiledQuery,
  type Dialect,
  type QueryResult,
} from 'kysely'
import type { Pool, PoolClient } from 'pg'
import { StatementDriver, type ExecuteStatement } from '../statement-driver.ts'
import { toStoreError } from './pool.ts'

/** Every query takes a connection of the pool for itself. */
const executeOn =
  (pool: Pick<Pool | PoolClient, 'query'>): ExecuteStatement =>
  async <Row>(query: CompiledQuery): Promise<QueryResult<Row>> => {
    try {
      const { rows, rowCount } = await pool.query<Record<string, unknown>>(query.sql, [...query.parameters])
      return { rows: rows as Row[], numAffectedRows: BigInt(rowCount ?? 0) }
    } catch (error) {
      throw toStoreError(error)
    }
  }

export const postgresDialect = (pool: Pick<Pool | PoolClient, 'query'>): Dialect => ({
  createAdapter: () => new PostgresAdapter(),
  createDriver: () => new StatementDriver(executeOn(pool)),
  createIntrospector: (database) => new PostgresIntrospector(database),
  createQueryCompiler: () => new PostgresQueryCompiler(),
})
