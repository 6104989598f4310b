import {
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
  type CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type QueryResult,
} from 'kysely'
import { refuse } from '#errors'
import { ConstraintError, type SqliteConnection } from './connection.ts'
import type { SqlValue } from './protocol.ts'

/** What queries need of a connection. */
export type QueryableConnection = Pick<SqliteConnection, 'query'>

/**
 * Every query is one message to the database's thread, and what must happen together is one message too
 * (`SqliteConnection.transaction`). So no connection is ever held between statements.
 */
class SqliteDriver implements Driver {
  readonly #connection: DatabaseConnection

  constructor(connection: QueryableConnection) {
    this.#connection = {
      async executeQuery<R>(query: CompiledQuery): Promise<QueryResult<R>> {
        try {
          const { rows, changes, insertId } = await connection.query(query.sql, query.parameters as readonly SqlValue[])
          return { rows: rows as R[], numAffectedRows: BigInt(changes), insertId: BigInt(insertId) }
        } catch (error) {
          throw error instanceof ConstraintError ? refuse('conflict', { what: 'record' }, error) : error
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
  throw new Error('the embedded store does not stream')
}

export const sqliteDialect = (connection: QueryableConnection): Dialect => ({
  createAdapter: () => new SqliteAdapter(),
  createDriver: () => new SqliteDriver(connection),
  createIntrospector: (database) => new SqliteIntrospector(database),
  createQueryCompiler: () => new SqliteQueryCompiler(),
})
