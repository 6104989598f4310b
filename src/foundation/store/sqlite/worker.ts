/**
 * The thread that holds the embedded database. `node:sqlite` is synchronous: here a slow disk stops nobody else.
 */
import { chmodSync, closeSync, fchmodSync, openSync } from 'node:fs'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import type { SqlValue, StoreReply, StoreRequest, StoreThread } from './protocol.ts'

const { path, role } = workerData as StoreThread
const port = parentPort!
const STATEMENTS = 200
/** Requests that become one transaction at most. */
const TOGETHER = 256

/** https://www.sqlite.org/rescode.html#busy */
const BUSY = 5

/** Before SQLite opens it, see `takeHold`. Private before anything is in it; SQLite gives the files beside it the same mode. */
const makePrivate = (file: string): void => {
  const descriptor = openSync(file, 'a', 0o600)
  try {
    fchmodSync(descriptor, 0o600)
  } finally {
    closeSync(descriptor)
  }
}

/**
 * A connection of its own holds the lock file as long as the process lives: two daemons on one folder would each
 * believe their own caches. The lock goes with the process, also when it is killed.
 */
const takeHold = (): DatabaseSync => {
  const lock = new DatabaseSync(`${path}.hold`)
  // By its name: closing any other descriptor of this file would drop the locks that this process has on it (fcntl(2)).
  chmodSync(`${path}.hold`, 0o600)
  try {
    lock.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE')
  } catch (error) {
    lock.close()
    throw error
  }
  return lock
}

const open = (): DatabaseSync => {
  makePrivate(path)
  const database = new DatabaseSync(path, { enableForeignKeyConstraints: true })
  // FULL: a commit has reached the disk when it returns (https://www.sqlite.org/pragma.html#pragma_synchronous).
  database.exec(
    'PRAGMA busy_timeout = 2000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 1000',
  )
  return database
}

/** Beside the holder: WAL lets it read while the other writes (https://www.sqlite.org/wal.html#concurrency). */
const openToRead = (): DatabaseSync => new DatabaseSync(path, { readOnly: true, timeout: 2000 })

const problemOf = (error: unknown): { problem: string; code: number } => {
  const { errcode, errstr, message } = error as { errcode?: number; errstr?: string; message?: string }
  return { problem: errstr === undefined ? String(message) : `${errstr}: ${message}`, code: errcode ?? -1 }
}

const serve = (database: DatabaseSync, lock?: DatabaseSync): void => {
  const statements = new Map<string, StatementSync>()
  const prepare = (sql: string): StatementSync => {
    let statement = statements.get(sql)
    if (statement !== undefined) return statement
    if (statements.size >= STATEMENTS) statements.clear()
    statement = database.prepare(sql)
    statements.set(sql, statement)
    return statement
  }

  const query = (sql: string, parameters: readonly SqlValue[]): Omit<Extract<StoreReply, { rows: unknown }>, 'id'> => {
    const statement = prepare(sql)
    if (statement.columns().length > 0)
      return { rows: statement.all(...parameters) as Record<string, unknown>[], changes: 0, insertId: 0 }
    const { changes, lastInsertRowid } = statement.run(...parameters)
    return { rows: [], changes: Number(changes), insertId: Number(lastInsertRowid) }
  }

  const run = (request: StoreRequest): StoreReply => {
    if (request.kind === 'query') return { id: request.id, ...query(request.sql, request.parameters) }
    if (request.kind === 'transaction') {
      for (const { sql, rows } of request.statements) {
        const statement = prepare(sql)
        for (const row of rows) statement.run(...row)
      }
    }
    return { id: request.id, rows: [], changes: 0, insertId: 0 }
  }

  /** Runs it as if it were alone: what fails leaves nothing of itself, and the others as they were. */
  const runWithin = (request: StoreRequest): StoreReply => {
    database.exec('SAVEPOINT request')
    try {
      const reply = run(request)
      database.exec('RELEASE request')
      return reply
    } catch (error) {
      // Some errors, a full disk among them, have rolled back everything by themselves already: then nobody's work is done.
      if (!database.isTransaction) throw error
      database.exec('ROLLBACK TO request; RELEASE request')
      return { id: request.id, ...problemOf(error) }
    }
  }

  /** All that is waiting becomes one transaction, so that it waits for the disk once. Nobody is answered before that. */
  const serveTogether = (requests: readonly StoreRequest[]): StoreReply[] => {
    try {
      database.exec('BEGIN IMMEDIATE')
      try {
        // One by itself needs no savepoint: what fails takes the transaction with it.
        const replies = requests.length === 1 ? requests.map(run) : requests.map(runWithin)
        database.exec('COMMIT')
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

  const serveAlone = (request: StoreRequest): StoreReply => {
    try {
      return run(request)
    } catch (error) {
      return { id: request.id, ...problemOf(error) }
    }
  }

  port.on('message', (first: StoreRequest) => {
    const requests = [first]
    while (requests.length < TOGETHER && requests.at(-1)!.kind !== 'close') {
      const next = receiveMessageOnPort(port) as { message: StoreRequest } | undefined
      if (next === undefined) break
      requests.push(next.message)
    }
    const closing = requests.at(-1)!.kind === 'close' ? requests.pop() : undefined
    // A statement by itself is a transaction by itself.
    const [only] = requests
    const replies =
      (requests.length === 1 && only!.kind === 'query') || role === 'reader'
        ? requests.map(serveAlone)
        : requests.length === 0
          ? []
          : serveTogether(requests)
    for (const reply of replies) port.postMessage(reply)
    if (closing === undefined) return
    try {
      database.close()
      lock?.close()
      port.postMessage({ id: closing.id, rows: [], changes: 0, insertId: 0 } satisfies StoreReply)
    } catch (error) {
      port.postMessage({ id: closing.id, ...problemOf(error) } satisfies StoreReply)
    }
    port.close()
  })
  port.postMessage({ id: 0, rows: [], changes: 0, insertId: 0 } satisfies StoreReply)
}

let hold: DatabaseSync | undefined
try {
  if (role === 'reader') serve(openToRead())
  else {
    hold = takeHold()
    serve(open(), hold)
  }
} catch (error) {
  const found = problemOf(error)
  port.postMessage({
    id: 0,
    ...found,
    held: role === 'holder' && hold === undefined && (found.code & 0xff) === BUSY,
  } satisfies StoreReply)
}
