import { createReadStream } from 'node:fs'
import type { AuditStore, SegmentFile } from '#foundation/store'
import { emptyChain, type ChainName } from './format/chain.ts'
import { checkpointLine, footerLine, headerLine, headerOf, recordLine } from './format/segment.ts'
import { prevOf } from './continuity.ts'
import { tableLines } from './verify/tables.ts'
import type { ChainLine } from './verify/walk.ts'

/** What an export begins with: who wrote it, and the public keys by which it can be verified. */
export interface ExportHead {
  readonly installation: string
  /** ms since the epoch. */
  readonly at: number
  /** JWKs of the checkpoint keys (RFC 7517). */
  readonly keys: readonly object[]
}

/** The version of an export's first and last line. */
const EXPORT_FORMAT = 1

const textOf = (line: ChainLine): string => {
  if (line.kind === 'record') return recordLine(line)
  if (line.kind === 'checkpoint') return checkpointLine(line.checkpoint)
  if (line.kind === 'header') return headerLine(line.header)
  if (line.kind === 'footer') return footerLine(line.footer)
  return ''
}

/** A chain that is kept in tables, as one segment that is still open. */
async function* exportTables(store: AuditStore, chain: ChainName): AsyncIterable<string> {
  const [first] = await store.query({ node: chain.node, afterSeq: 0 }, { limit: 1 })
  const begins =
    first === undefined
      ? { first: 1, after: emptyChain(chain).hash, at: 0 }
      : { first: first.seq, after: prevOf(first), at: first.at }
  yield headerLine(headerOf(chain, { number: 1, ...begins }))
  let text = ''
  for await (const line of tableLines(store, chain.node)) {
    text += textOf(line)
    if (text.length < CHUNK) continue
    yield text
    text = ''
  }
  yield text
}
const CHUNK = 65_536

/** A chain that is kept as files, byte for byte. */
async function* exportFiles(files: readonly SegmentFile[]): AsyncIterable<Uint8Array> {
  for (const { path, bytes } of files)
    if (bytes > 0) yield* createReadStream(path, { end: bytes - 1 }) as AsyncIterable<Uint8Array>
}

/**
 * Everything by which the chains can be verified elsewhere, as docs/audit-format.md says it: a first line with the
 * public keys, each chain as segments, and a last line, without which the export was cut off.
 * @param nodes default: every node that has a chain
 */
export async function* exportChains(
  store: AuditStore,
  head: ExportHead,
  nodes?: readonly string[],
): AsyncIterable<string | Uint8Array> {
  const chains = nodes ?? (await store.chains())
  yield `${JSON.stringify({ export: { format: EXPORT_FORMAT, ...head, chains } })}\n`
  for (const node of chains) {
    const files = await store.segments?.(node)
    yield* files === undefined ? exportTables(store, { installation: head.installation, node }) : exportFiles(files)
  }
  yield `${JSON.stringify({ end: { chains: chains.length } })}\n`
}
