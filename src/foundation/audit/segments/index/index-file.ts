import { chmodSync, rmSync } from 'node:fs'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import type { AuditEvent } from '../../events.ts'
import type { Columns } from '../../format/chain.ts'

/** What the index looks like. One of another form is made anew. */
const VERSION = 3

/** Records are found by their ids in groups of this many, so that a batch of new ones touches few pages. */
export const ID_GROUP = 65_536
/** Which words records hold is known for groups of this many. */
export const WORD_GROUP = 4096

const SCHEMA = `
create table meta (name text primary key, value) without rowid;
create table segments (number integer primary key, header text not null);
create table records (seq integer primary key, place integer not null, at integer not null, event integer not null,
  outcome integer not null, tenant integer, user integer, server integer, downstream integer);
create table ids (grp integer not null, id integer not null, seq integer not null, primary key (grp, id, seq)) without rowid;
create table rare (event integer not null, seq integer not null, primary key (event, seq)) without rowid;
create table words (id integer primary key, word text not null unique);
create table seen (grp integer not null, word integer not null, primary key (grp, word)) without rowid;
create table groups (grp integer primary key, from_at integer not null, to_at integer not null);
create table checkpoints (seq integer primary key, place integer not null);
pragma user_version = ${VERSION};`

/** Events of requests. Those of all others are few, and a start looks for some of them: they are found by name. */
export const FREQUENT_EVENTS: ReadonlySet<string> = new Set<AuditEvent>([
  'token.exchange',
  'token.introspect',
  'token.client_credentials',
  'token.identity_assertion',
  'token.agent',
  'tool.call',
  'proxy.connect',
  'connection.open',
  'lease.begin',
  'lease.end',
])

/** Where a line is: the number of its segment and its first byte there, as one number. */
export const placeOf = (segment: number, byte: number): number => segment * 2 ** 32 + byte
export const segmentOf = (place: number): number => Math.floor(place / 2 ** 32)
export const byteOf = (place: number): number => place % 2 ** 32

/** 48 bits of an id; records of different ids may have the same. */
export const shortId = (id: string): number => {
  let [a, b] = [0x811c9dc5, 0x01000193]
  for (let at = 0; at < id.length; at += 1) {
    const code = id.charCodeAt(at)
    a = Math.imul(a ^ code, 0x01000193)
    b = Math.imul(b + code, 0x9e3779b1) ^ (b >>> 15)
  }
  return (a >>> 0) * 0x10000 + ((b ^ (b >>> 16)) & 0xffff)
}

/** The words of a record's columns, interned. */
export interface Words {
  /** The event is none of those of requests. */
  readonly isRare: boolean
  readonly event: number
  readonly outcome: number
  readonly tenant: number | null
  readonly user: number | null
  readonly server: number | null
  readonly downstream: number | null
}

/** How far the index has come: everything before this place is in it. */
export interface Position {
  readonly segment: number
  readonly byte: number
  /** The last record, and its hash; 0 and empty before the first. */
  readonly seq: number
  readonly hash: string
}

/** Words and combinations of them that are kept in memory, at most. */
const MAX_KEPT = 20_000

/**
 * The index of a chain in segments: an SQLite file that may go or be wrong at any time, for it is made of the segments
 * alone. It holds where each record is and what it is found by, words as numbers; texts are read from the segments.
 */
export class IndexFile {
  readonly #database: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()
  readonly #words = new Map<string, number>()
  #seenGroup = -1
  readonly #seen = new Set<number>()
  #group = { grp: -1, from: 0, to: 0 }

  private constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** Opens it, or makes it anew where it is missing, damaged or of another version. */
  static open(path: string): IndexFile {
    try {
      return IndexFile.#openAsIs(path)
    } catch {
      return IndexFile.makeAnew(path)
    }
  }

  static makeAnew(path: string): IndexFile {
    for (const suffix of ['', '-wal', '-shm', '-journal']) rmSync(path + suffix, { force: true })
    const database = connect(path)
    chmodSync(path, 0o600)
    database.exec(`begin; ${SCHEMA} commit;`)
    return new IndexFile(database)
  }

  static #openAsIs(path: string): IndexFile {
    const database = connect(path)
    const version = database.prepare('pragma user_version').get()?.['user_version']
    if (version !== VERSION) {
      database.close()
      throw new Error('another version')
    }
    return new IndexFile(database)
  }

  prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (statement === undefined) {
      statement = this.#database.prepare(sql)
      this.#statements.set(sql, statement)
    }
    return statement
  }

  get position(): Position {
    const row = this.prepare("select value from meta where name = 'position'").get()
    if (row === undefined) return { segment: 0, byte: 0, seq: 0, hash: '' }
    const [segment, byte, seq, hash = ''] = String(row['value']).split(' ')
    return { segment: Number(segment), byte: Number(byte), seq: Number(seq), hash }
  }

  headerOf(segment: number): string | undefined {
    return this.prepare('select header from segments where number = ?').get(segment)?.['header'] as string | undefined
  }

  /** The number of a word; undefined for one that no record holds. */
  find(word: string): number | undefined {
    return this.prepare('select id from words where word = ?').get(word)?.['id'] as number | undefined
  }

  /** Adds what is read from the segments, as one transaction that ends at a position. */
  transaction(work: () => Position): void {
    this.#database.exec('begin')
    try {
      const { segment, byte, seq, hash } = work()
      this.#endGroup()
      this.prepare("insert or replace into meta (name, value) values ('position', ?)").run(
        `${segment} ${byte} ${seq} ${hash}`,
      )
      this.#database.exec('commit')
    } catch (error) {
      if (this.#database.isTransaction) this.#database.exec('rollback')
      // What is remembered may not be in the file any more.
      this.#words.clear()
      this.#seenGroup = -1
      this.#group = { grp: -1, from: 0, to: 0 }
      throw error
    }
  }

  addSegment(number: number, header: string): void {
    this.prepare('insert or replace into segments (number, header) values (?, ?)').run(number, header)
  }

  addCheckpoint(seq: number, place: number): void {
    this.prepare('insert or replace into checkpoints (seq, place) values (?, ?)').run(seq, place)
  }

  addRecord(seq: number, place: number, { id, at }: Pick<Columns, 'id' | 'at'>, words: Words): void {
    const { event, outcome, tenant, user, server, downstream } = words
    this.prepare('insert or replace into records values (?, ?, ?, ?, ?, ?, ?, ?, ?)').run(
      seq,
      place,
      at,
      event,
      outcome,
      tenant,
      user,
      server,
      downstream,
    )
    this.prepare('insert or ignore into ids (grp, id, seq) values (?, ?, ?)').run(
      Math.floor(seq / ID_GROUP),
      shortId(id),
      seq,
    )
    if (words.isRare) this.prepare('insert or ignore into rare (event, seq) values (?, ?)').run(event, seq)
    const grp = Math.floor(seq / WORD_GROUP)
    if (this.#group.grp !== grp) this.#beginGroup(grp, at)
    this.#group.from = Math.min(this.#group.from, at)
    this.#group.to = Math.max(this.#group.to, at)
    if (this.#seenGroup !== grp) {
      this.#seen.clear()
      this.#seenGroup = grp
    }
    this.#see(grp, event)
    this.#see(grp, outcome)
    if (tenant !== null) this.#see(grp, tenant)
    if (user !== null) this.#see(grp, user)
    if (server !== null) this.#see(grp, server)
    if (downstream !== null) this.#see(grp, downstream)
  }

  /** Takes out records that were removed. Words stay: other records have them. */
  forget(upTo: number): void {
    this.transaction(() => {
      for (const table of ['records', 'checkpoints'] as const)
        this.prepare(`delete from ${table} where seq <= ?`).run(upTo)
      this.prepare('delete from rare where seq <= ?').run(upTo)
      this.prepare('delete from ids where grp < ?').run(Math.floor((upTo + 1) / ID_GROUP))
      for (const table of ['seen', 'groups'] as const)
        this.prepare(`delete from ${table} where grp < ?`).run(Math.floor((upTo + 1) / WORD_GROUP))
      return this.position
    })
  }

  /** The number of a word, which is given one if it has none. */
  intern(word: string): number {
    const kept = this.#words.get(word)
    if (kept !== undefined) return kept
    if (this.#words.size >= MAX_KEPT) this.#words.clear()
    const id = this.find(word) ?? Number(this.prepare('insert into words (word) values (?)').run(word).lastInsertRowid)
    this.#words.set(word, id)
    return id
  }

  close(): void {
    this.#database.close()
  }

  #see(grp: number, word: number): void {
    if (this.#seen.has(word)) return
    this.#seen.add(word)
    this.prepare('insert or ignore into seen (grp, word) values (?, ?)').run(grp, word)
  }

  #beginGroup(grp: number, at: number): void {
    this.#endGroup()
    const row = this.prepare('select from_at, to_at from groups where grp = ?').get(grp)
    this.#group =
      row === undefined ? { grp, from: at, to: at } : { grp, from: Number(row['from_at']), to: Number(row['to_at']) }
  }

  #endGroup(): void {
    const { grp, from, to } = this.#group
    if (grp >= 0)
      this.prepare('insert or replace into groups (grp, from_at, to_at) values (?, ?, ?)').run(grp, from, to)
  }
}

const connect = (path: string): DatabaseSync => {
  const database = new DatabaseSync(path)
  // A commit is in the file when the power fails or not; the file itself is whole
  // (https://www.sqlite.org/pragma.html#pragma_synchronous).
  database.exec(
    'PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 4000; PRAGMA cache_size = -4000',
  )
  return database
}
