import {
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
  type CompiledQuery,
  type Dialect,
  type QueryResult,
} from 'kysely'
import { refuse } from '#errors'
import { StatementDriver, type ExecuteStatement } from '../statement-driver.ts'
import { ConstraintError, type SqliteConnection } from './connection.ts'
import type { SqlValue } from './protocol.ts'

/** What queries need of a connection. */
export type QueryableConnection = Pick<SqliteConnection, 'query'>

/** Every query is one message to the database's thread. */
const executeOn =
  (connection: QueryableConnection): ExecuteStatement =>
  async <Row>(query: CompiledQuery): Promise<QueryResult<Row>> => {
    try {
      const { rows, changes, insertId } = await connection.query(query.sql, query.parameters as readonly SqlValue[])
      return { rows: rows as Row[], numAffectedRows: BigInt(changes), insertId: BigInt(insertId) }
    } catch (error) {
      throw error instanceof ConstraintError ? refuse('conflict', { what: 'record' }, error) : error
    }
  }

export const sqliteDialect = (connection: QueryableConnection): Dialect => ({
  createAdapter: () => new SqliteAdapter(),
  createDriver: () => new StatementDriver(executeOn(connection)),
  createIntrospector: (database) => new SqliteIntrospector(database),
  createQueryCompiler: () => new SqliteQueryCompiler(),
})
