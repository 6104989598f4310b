import {
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type QueryResult,
} from 'kysely'
import type { Pool, PoolClient } from 'pg'
import { toStoreError } from './pool.ts'

/** Every query takes a connection of the pool for itself; what must happen together goes through `inTransaction`. */
class PostgresDriver implements Driver {
  readonly #connection: DatabaseConnection

  constructor(pool: Pick<Pool | PoolClient, 'query'>) {
    this.#connection = {
      async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
        try {
          const { rows, rowCount } = await pool.query<Record<string, unknown>>(query.sql, [...query.parameters])
          return { rows: rows as R[], numAffectedRows: BigInt(rowCount ?? 0) }
        } catch (error) {
          throw toStoreError(error)
        }
      },
      streamQuery: refuseToStream,
    }
  }

  init(): Promise<void> {
    return Promise.resolve()
  }
  acquireConnection(): Promise<DatabaseConnection> {
    return Promise.resolve(this.#connection)
  }
  beginTransaction(): Promise<void> {
    return Promise.reject(new Error('use Atomically: a transaction is sent whole'))
  }
  commitTransaction(): Promise<void> {
    return Promise.resolve()
  }
  rollbackTransaction(): Promise<void> {
    return Promise.resolve()
  }
  releaseConnection(): Promise<void> {
    return Promise.resolve()
  }
  destroy(): Promise<void> {
    return Promise.resolve()
  }
}

const refuseToStream = (): never => {
  throw new Error('the store does not stream')
}

export const postgresDialect = (pool: Pick<Pool | PoolClient, 'query'>): Dialect => ({
  createAdapter: () => new PostgresAdapter(),
  createDriver: () => new PostgresDriver(pool),
  createIntrospector: (database) => new PostgresIntrospector(database),
  createQueryCompiler: () => new PostgresQueryCompiler(),
})
