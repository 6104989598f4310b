import type { AuditFilter, AuditRow } from '#foundation/store'
import { readLine } from '../../format/segment.ts'
import { downstreamsOfRecord } from '../../record.ts'
import { frontOf } from './feed.ts'
import { byteOf, FREQUENT_EVENTS, ID_GROUP, segmentOf, shortId, WORD_GROUP, type IndexFile } from './index-file.ts'
import type { SegmentReader } from './segment-reader.ts'

const EQUAL = ['event', 'outcome', 'tenant', 'user', 'server'] as const

interface Found {
  readonly seq: number
  readonly at: number
  readonly place: number
}

/** A search as the index understands it; undefined where no record can match. */
interface Plan {
  /** One of each list must be among the words of a group that is read. */
  readonly words: readonly (readonly number[])[]
  readonly sql: string
  readonly parameters: readonly number[]
}

/** Escapes what has a meaning in a pattern of `like`. */
const escaped = (text: string): string => text.replace(/[\\%_]/g, '\\$&')

/** Numbers of the words that name a downstream: by itself, or among others. */
const downstreamWords = (index: IndexFile, id: string): number[] =>
  index
    .prepare(`select id, word from words where word = ? or word like ? escape '\\'`)
    .all(id, `%${escaped(id)}%`)
    .filter(({ word }) => downstreamsOfRecord({ downstream: String(word) }).includes(id))
    .map(({ id: number }) => Number(number))

const planOf = (index: IndexFile, filter: AuditFilter): Plan | undefined => {
  const words: number[][] = []
  const conditions: string[] = []
  const parameters: number[] = []
  for (const column of EQUAL) {
    const value = filter[column]
    if (value === undefined) continue
    const word = index.find(value)
    if (word === undefined) return undefined
    words.push([word])
    conditions.push(`${column} = ?`)
    parameters.push(word)
  }
  if (filter.downstream !== undefined) {
    const found = downstreamWords(index, filter.downstream)
    if (found.length === 0) return undefined
    words.push(found)
    conditions.push(`downstream in (${found.join(', ')})`)
  }
  const others = (filter.otherThan ?? []).flatMap((event) => index.find(event) ?? [])
  if (others.length > 0) conditions.push(`event not in (${others.join(', ')})`)
  for (const [condition, value] of [
    ['at >= ?', filter.since],
    ['at <= ?', filter.until],
  ] as const)
    if (value !== undefined) {
      conditions.push(condition)
      parameters.push(value)
    }
  return { words, sql: conditions.map((condition) => ` and ${condition}`).join(''), parameters }
}

/** The places of records with an id, in the order of their numbers: one look into each group of ids. */
const byId = (index: IndexFile, id: string, afterSeq = 0): Found[] => {
  const last = Number(index.prepare('select max(seq) as last from records').get()?.['last'] ?? 0)
  return index
    .prepare(
      `with recursive groups_of_ids (grp) as (select ? union all select grp + 1 from groups_of_ids where grp < ?)
        select r.seq, r.place, r.at from groups_of_ids as g
          cross join ids on ids.grp = g.grp and ids.id = ? cross join records as r on r.seq = ids.seq
        where ids.seq > ? order by ids.seq`,
    )
    .all(
      Math.floor((afterSeq + 1) / ID_GROUP),
      Math.floor(last / ID_GROUP),
      shortId(id),
      afterSeq,
    ) as unknown as Found[]
}

interface Group {
  readonly grp: number
  readonly from: number
  readonly to: number
}

/** The groups of records that may hold what is searched for, in their order. */
const groupsOf = (index: IndexFile, filter: AuditFilter, words: Plan['words']): Group[] => {
  const { afterSeq = 0, since = 0, until = Number.MAX_SAFE_INTEGER } = filter
  const hold = words.map(
    (any) =>
      ` and exists (select 1 from seen where seen.grp = groups.grp and seen.word in (${any.map(() => '?').join(', ')}))`,
  )
  return index
    .prepare(
      `select grp, from_at as "from", to_at as "to" from groups
        where grp >= ? and from_at <= ? and to_at >= ?${hold.join('')} order by grp`,
    )
    .all(Math.floor((afterSeq + 1) / WORD_GROUP), until, since, ...words.flat()) as unknown as Group[]
}

/** Reads the records of a group that match. */
const reading = (index: IndexFile, { afterSeq = 0 }: AuditFilter, { sql, parameters }: Plan, order: string) => {
  const of = index.prepare(`select seq, place, at from records where seq between ? and ?${sql} order by ${order}`)
  return ({ grp }: Group): Iterable<Found> =>
    of.iterate(
      Math.max(afterSeq + 1, grp * WORD_GROUP),
      (grp + 1) * WORD_GROUP - 1,
      ...parameters,
    ) as unknown as Iterable<Found>
}

/** The places of records by what they hold, in the order of their numbers. */
function* byNumber(index: IndexFile, filter: AuditFilter, plan: Plan, last: boolean): Iterable<Found> {
  const read = reading(index, filter, plan, last ? 'seq desc' : 'seq')
  const groups = groupsOf(index, filter, plan.words)
  for (const group of last ? groups.reverse() : groups) yield* read(group)
}

/** The places of records of an event that is none of those of requests, in the order of their numbers. */
const byEvent = (index: IndexFile, filter: AuditFilter, { sql, parameters }: Plan, last: boolean): Iterable<Found> =>
  index
    .prepare(
      `select r.seq, r.place, r.at from rare join records r on r.seq = rare.seq
        where rare.event = ? and rare.seq > ?${sql.replaceAll(' and ', ' and r.')} order by rare.seq${last ? ' desc' : ''}`,
    )
    .iterate(index.find(filter.event!)!, filter.afterSeq ?? 0, ...parameters) as unknown as Iterable<Found>

const byTime =
  (last: boolean) =>
  (a: Found, b: Found): number =>
    (last ? -1 : 1) * (a.at - b.at || a.seq - b.seq)

/** In the order of their times, which is another one where the clock was put back. */
function* inTime(index: IndexFile, filter: AuditFilter, plan: Plan, last: boolean): Iterable<Found> {
  const read = reading(index, filter, plan, 'seq')
  const groups = groupsOf(index, filter, plan.words).sort((a, b) => (last ? b.to - a.to : a.from - b.from))
  let waiting: Found[] = []
  for (const [at, group] of groups.entries()) {
    waiting = [...waiting, ...read(group)].sort(byTime(last))
    const next = groups[at + 1]
    // Those of the next group, and of every one after it, come later than these.
    const comes = ({ at: time }: Found): boolean => next === undefined || (last ? time > next.to : time < next.from)
    const ready = waiting.findIndex((each) => !comes(each))
    yield* ready === -1 ? waiting : waiting.slice(0, ready)
    waiting = ready === -1 ? [] : waiting.slice(ready)
  }
}

const placesOf = (index: IndexFile, filter: AuditFilter, plan: Plan, last: boolean): Iterable<Found> => {
  // Records of one chain are in the order of their numbers; those of all chains, in that of their times.
  const isInTime = filter.node === '*'
  const isRare = filter.event !== undefined && !FREQUENT_EVENTS.has(filter.event)
  if (filter.id === undefined && isRare) {
    const found = byEvent(index, filter, plan, last)
    return isInTime ? [...found].sort(byTime(last)) : found
  }
  if (filter.id === undefined) return (isInTime ? inTime : byNumber)(index, filter, plan, last)
  const found = byId(index, filter.id, filter.afterSeq)
  if (isInTime) return found.sort(byTime(last))
  return last ? found.reverse() : found
}

/** A record as a row; undefined for what is no record any more. */
export const rowOf = (line: Buffer): AuditRow | undefined => {
  const read = readLine(line.toString('utf8'))
  const front = frontOf(line)
  if (read?.kind !== 'record' || front === undefined) return undefined
  try {
    const { prev: _, ...columns } = JSON.parse(`${front}}`) as Omit<AuditRow, 'body' | 'hash'> & { prev: string }
    return { ...columns, body: read.body, hash: read.hash }
  } catch {
    return undefined
  }
}

/** The index is not trusted: what it finds must be what was asked for. */
const matches = (row: AuditRow, filter: AuditFilter, mentioned: string | undefined): boolean => {
  if (filter.id !== undefined && row.id !== filter.id) return false
  if (EQUAL.some((column) => filter[column] !== undefined && row[column] !== filter[column])) return false
  if (filter.otherThan?.includes(row.event) === true) return false
  if (filter.downstream !== undefined && !downstreamsOfRecord(row).includes(filter.downstream)) return false
  if (row.at < (filter.since ?? -Infinity) || row.at > (filter.until ?? Infinity)) return false
  return mentioned === undefined || row.body.toLowerCase().includes(mentioned)
}

interface SearchPage {
  readonly limit: number
  readonly last?: boolean
  /** Called from time to time: a search through everything takes a while. */
  readonly progress: () => void
}

/** Records that are looked at between two signs of progress. */
const LOOKED_AT = 500

/** Searches a chain. Records of segments that were removed are not found. */
export const search = (
  index: IndexFile,
  reader: SegmentReader,
  filter: AuditFilter,
  { limit, last = false, progress }: SearchPage,
): AuditRow[] => {
  const plan = planOf(index, filter)
  if (plan === undefined) return []
  const mentioned =
    filter.mentions === undefined ? undefined : JSON.stringify(filter.mentions).slice(1, -1).toLowerCase()
  const rows: AuditRow[] = []
  let count = 0
  for (const { seq, place } of placesOf(index, filter, plan, last)) {
    if (rows.length >= limit) break
    count += 1
    if (count % LOOKED_AT === 0) progress()
    const line = reader.line(segmentOf(place), byteOf(place), last)
    const row = line === undefined ? undefined : rowOf(line)
    if (row?.seq === seq && matches(row, filter, mentioned)) rows.push(row)
  }
  return last ? rows.reverse() : rows
}
