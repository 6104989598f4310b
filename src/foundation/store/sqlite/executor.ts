/** Runs the requests of the store on one connection of SQLite. */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import type { SqlValue, StoreReply, StoreRequest } from './protocol.ts'

/** Prepared statements that are kept at most. */
const MAX_STATEMENTS = 200

/** What SQLite says of an error, and its result code; -1 for every other error. */
export const problemOf = (error: unknown): { problem: string; code: number } => {
  const { errcode, errstr, message } = error as { errcode?: number; errstr?: string; message?: string }
  return { problem: errstr === undefined ? String(message) : `${errstr}: ${message}`, code: errcode ?? -1 }
}

export class Executor {
  readonly #database: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** Runs a request by itself. */
  alone(request: StoreRequest): StoreReply {
    try {
      return this.#run(request)
    } catch (error) {
      return { id: request.id, ...problemOf(error) }
    }
  }

  /** Runs requests as one transaction, which waits for the disk once. No request is answered before that. */
  together(requests: readonly StoreRequest[]): StoreReply[] {
    const database = this.#database
    try {
      this.#prepare('BEGIN IMMEDIATE').run()
      try {
        // A single request needs no savepoint: its failure rolls back the transaction.
        const replies =
          requests.length === 1
            ? requests.map((request) => this.#run(request))
            : requests.map((request) => this.#runWithin(request))
        this.#prepare('COMMIT').run()
        return replies
      } catch (error) {
        if (database.isTransaction) database.exec('ROLLBACK')
        throw error
      }
    } catch (error) {
      const found = problemOf(error)
      return requests.map(({ id }) => ({ id, ...found }))
    }
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (statement !== undefined) return statement
    if (this.#statements.size >= MAX_STATEMENTS) this.#statements.clear()
    statement = this.#database.prepare(sql)
    this.#statements.set(sql, statement)
    return statement
  }

  #query(sql: string, parameters: readonly SqlValue[]): Omit<Extract<StoreReply, { rows: unknown }>, 'id'> {
    const statement = this.#prepare(sql)
    if (statement.columns().length > 0)
      return { rows: statement.all(...parameters) as Record<string, unknown>[], changes: 0, insertId: 0 }
    const { changes, lastInsertRowid } = statement.run(...parameters)
    return { rows: [], changes: Number(changes), insertId: Number(lastInsertRowid) }
  }

  #run(request: StoreRequest): StoreReply {
    if (request.kind === 'query') return { id: request.id, ...this.#query(request.sql, request.parameters) }
    if (request.kind === 'transaction') {
      for (const { sql, rows } of request.statements) {
        const statement = this.#prepare(sql)
        for (const row of rows) statement.run(...row)
      }
    }
    return { id: request.id, rows: [], changes: 0, insertId: 0 }
  }

  /** Runs a request within a transaction of several: a failure undoes this request only. */
  #runWithin(request: StoreRequest): StoreReply {
    const database = this.#database
    // One statement undoes itself when it fails (https://www.sqlite.org/lang_conflict.html, ABORT).
    const needsSavepoint = request.kind === 'transaction'
    if (needsSavepoint) this.#prepare('SAVEPOINT request').run()
    try {
      const reply = this.#run(request)
      if (needsSavepoint) this.#prepare('RELEASE request').run()
      return reply
    } catch (error) {
      // Some errors, a full disk among them, have rolled back the whole transaction already: then no request is done.
      if (!database.isTransaction) throw error
      if (needsSavepoint) database.exec('ROLLBACK TO request; RELEASE request')
      return { id: request.id, ...problemOf(error) }
    }
  }
}
