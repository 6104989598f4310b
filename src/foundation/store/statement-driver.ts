import type { CompiledQuery, DatabaseConnection, Driver, QueryResult } from 'kysely'

/** Runs one statement. @throws what the store's users know: `conflict`, `store_unavailable` */
export type ExecuteStatement = <Row>(query: CompiledQuery) => Promise<QueryResult<Row>>

/**
 * A driver that holds no connection between statements. What must happen together is sent as one message (SQLite) or goes
 * through `inTransaction` (Postgres), and never through a transaction of kysely.
 */
export class StatementDriver implements Driver {
  readonly #connection: DatabaseConnection

  constructor(executeQuery: ExecuteStatement) {
    this.#connection = { executeQuery, streamQuery: refuseToStream }
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
