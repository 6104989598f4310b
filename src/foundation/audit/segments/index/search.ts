import type { AuditFilter, AuditRow } from '#foundation/store'
import { readLine } from '../../format/segment.ts'
import { frontOf } from './feed.ts'
import { byteOf, ID_GROUP, segmentOf, shortId, WORD_GROUP, type IndexFile } from './index-file.ts'
import type { SegmentReader } from './segment-reader.ts'

const EQUAL = ['event', 'outcome', 'tenant', 'user', 'server'] as const

interface Found {
  readonly seq: number
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
    .filter(({ word }) => String(word).split(' ').includes(id))
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

/** The places of records with an id. */
function* byId(index: IndexFile, id: string, { afterSeq = 0 }: AuditFilter, order: string): Iterable<Found> {
  const last = Number(index.prepare('select max(seq) as last from records').get()?.['last'] ?? 0)
  const numbers = Array.from({ length: Math.floor(last / ID_GROUP) + 1 }, (_, at) => at)
  if (order === 'desc') numbers.reverse()
  const of = index.prepare(
    `select r.seq, r.place from ids join records r on r.seq = ids.seq where grp = ? and ids.id = ? and ids.seq > ? order by ids.seq ${order}`,
  )
  for (const grp of numbers) yield* of.all(grp, shortId(id), afterSeq) as unknown as Found[]
}

/** The places of records by what they hold, group by group. */
function* byWords(
  index: IndexFile,
  filter: AuditFilter,
  { words, sql, parameters }: Plan,
  order: string,
): Iterable<Found> {
  const { afterSeq = 0, since = -Infinity, until = Infinity } = filter
  const groups = index
    .prepare(`select grp, from_at, to_at from groups where grp >= ? order by grp ${order}`)
    .all(Math.floor((afterSeq + 1) / WORD_GROUP))
  const has = index.prepare('select 1 from seen where grp = ? and word = ?')
  const of = index.prepare(`select seq, place from records where seq between ? and ?${sql} order by seq ${order}`)
  for (const { grp, from_at: from, to_at: to } of groups) {
    const group = Number(grp)
    if (Number(from) > until || Number(to) < since) continue
    if (!words.every((any) => any.some((word) => has.get(group, word) !== undefined))) continue
    const first = Math.max(afterSeq + 1, group * WORD_GROUP)
    yield* of.iterate(first, (group + 1) * WORD_GROUP - 1, ...parameters) as unknown as Iterable<Found>
  }
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
  if (filter.downstream !== undefined && row.downstream?.split(' ').includes(filter.downstream) !== true) return false
  if (row.at < (filter.since ?? -Infinity) || row.at > (filter.until ?? Infinity)) return false
  return mentioned === undefined || row.body.toLowerCase().includes(mentioned)
}

/** Searches a chain. Records of segments that were removed are not found. */
export const search = (
  index: IndexFile,
  reader: SegmentReader,
  filter: AuditFilter,
  { limit, last = false }: { readonly limit: number; readonly last?: boolean },
): AuditRow[] => {
  const plan = planOf(index, filter)
  if (plan === undefined) return []
  const order = last ? 'desc' : 'asc'
  const found = filter.id === undefined ? byWords(index, filter, plan, order) : byId(index, filter.id, filter, order)
  const mentioned =
    filter.mentions === undefined ? undefined : JSON.stringify(filter.mentions).slice(1, -1).toLowerCase()
  const rows: AuditRow[] = []
  for (const { seq, place } of found) {
    if (rows.length >= limit) break
    const line = reader.line(segmentOf(place), byteOf(place), last)
    const row = line === undefined ? undefined : rowOf(line)
    if (row?.seq === seq && matches(row, filter, mentioned)) rows.push(row)
  }
  return last ? rows.reverse() : rows
}
