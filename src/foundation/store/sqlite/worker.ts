/**
 * The thread that holds the embedded database. `node:sqlite` is synchronous: on a thread of its own, a slow disk stops no other work.
 */
import { closeSync, fchmodSync, openSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { isHeld, takeHold } from '#foundation/hold'
import { Executor, problemOf } from './executor.ts'
import type { StoreReply, StoreRequest, StoreThread } from './protocol.ts'

const { path, role } = workerData as StoreThread
const port = parentPort!
/** Requests that become one transaction at most. */
const MAX_BATCH = 256

/** Before SQLite opens it, see `takeHold`. Private before it has content; SQLite creates its other files with the same mode. */
const makePrivate = (file: string): void => {
  const descriptor = openSync(file, 'a', 0o600)
  try {
    fchmodSync(descriptor, 0o600)
  } finally {
    closeSync(descriptor)
  }
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

/** Reads while the holder writes, which WAL allows (https://www.sqlite.org/wal.html#concurrency). */
const openToRead = (): DatabaseSync => new DatabaseSync(path, { readOnly: true, timeout: 2000 })

const serve = (database: DatabaseSync, lock?: DatabaseSync): void => {
  const executor = new Executor(database)
  port.on('message', (first: StoreRequest) => {
    const requests = [first]
    while (requests.length < MAX_BATCH && requests.at(-1)!.kind !== 'close') {
      const next = receiveMessageOnPort(port) as { message: StoreRequest } | undefined
      if (next === undefined) break
      requests.push(next.message)
    }
    const closing = requests.at(-1)!.kind === 'close' ? requests.pop() : undefined
    // A single statement is a transaction by itself.
    const [only] = requests
    const replies =
      (requests.length === 1 && only!.kind === 'query') || role === 'reader'
        ? requests.map((request) => executor.alone(request))
        : requests.length === 0
          ? []
          : executor.together(requests)
    // One message for all of them: each one wakes the other thread.
    if (replies.length > 0) port.postMessage(replies)
    if (closing === undefined) return
    try {
      database.close()
      lock?.close()
      port.postMessage([{ id: closing.id, rows: [], changes: 0, insertId: 0 }] satisfies StoreReply[])
    } catch (error) {
      port.postMessage([{ id: closing.id, ...problemOf(error) }] satisfies StoreReply[])
    }
    port.close()
  })
  port.postMessage({ id: 0, rows: [], changes: 0, insertId: 0 } satisfies StoreReply)
}

let hold: DatabaseSync | undefined
try {
  if (role === 'reader') serve(openToRead())
  else {
    hold = takeHold(`${path}.hold`)
    serve(open(), hold)
  }
} catch (error) {
  const found = problemOf(error)
  port.postMessage({
    id: 0,
    ...found,
    held: role === 'holder' && hold === undefined && isHeld(error),
  } satisfies StoreReply)
}
