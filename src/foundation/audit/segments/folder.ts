import { join } from 'node:path'
import type { AuditCheckpoint } from '#foundation/store'
import type { ChainName, Head } from '../format/chain.ts'
import type { SegmentFooter } from '../format/segment.ts'
import type { FileOperations } from './file-operations.ts'
import { DamagedEnd, readFooter, scanSegment, type Damage, type Scanned } from './scan.ts'

/** A segment whose records are complete. */
export interface SealedSegment {
  readonly number: number
  readonly path: string
  readonly bytes: number
  /** Its records were removed after their time: the file is its footer. */
  readonly removed: boolean
  /** Undefined where it cannot be read. */
  readonly footer: SegmentFooter | undefined
}

/** What a folder holds of one chain. */
export interface FoundChain {
  readonly sealed: readonly SealedSegment[]
  /** The segment that is being written; undefined where the last one is sealed, or there is none. */
  readonly open: { readonly path: string; readonly scanned: Scanned } | undefined
  /** Undefined where nothing was written yet. */
  readonly head: Head | undefined
  readonly checkpoint: AuditCheckpoint | undefined
  /** The number of the last segment; 0 where there is none. */
  readonly last: number
  /** What is not as it was written, each as a sentence. */
  readonly problems: readonly string[]
}

/** Names of this form are files of a chain; a footer by itself has a name of its own. */
const nameOf = (node: string): RegExp =>
  new RegExp(`^${node.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}-(\\d{10})\\.(jsonl|footer)$`)

export const segmentPath = (folder: string, node: string, number: number): string =>
  join(folder, `${node}-${String(number).padStart(10, '0')}.jsonl`)
export const footerPath = (folder: string, node: string, number: number): string =>
  segmentPath(folder, node, number).replace(/jsonl$/, 'footer')

/** A file that was not finished has this at the end of its name. */
export const UNFINISHED = '.new'

/** The files of a chain by number. Where a segment and its footer are both there, the removal was not finished. */
const filesOf = (
  files: FileOperations,
  folder: string,
  node: string,
): Map<number, { path: string; removed: boolean }> => {
  const pattern = nameOf(node)
  const found = new Map<number, { path: string; removed: boolean }>()
  for (const name of files.list(folder)) {
    const [, number, kind] = pattern.exec(name) ?? []
    if (number === undefined) continue
    const removed = kind === 'footer'
    if (!removed || !found.has(Number(number))) found.set(Number(number), { path: join(folder, name), removed })
  }
  return found
}

const describe = ({ path, byte, why }: Damage): string => `${path}, byte ${byte}: ${why}`

/** Whether a sealed segment follows what comes before it. */
const problemOf = (before: SealedSegment | undefined, { number, footer, path }: SealedSegment): string | undefined => {
  const expected = (before?.number ?? 0) + 1
  if (number !== expected)
    return `segment ${expected === number - 1 ? expected : `${expected} to ${number - 1}`} of the audit log is missing`
  if (footer === undefined) return `${path} has no footer: its end was cut off or altered`
  if (before?.footer !== undefined && (footer.after !== before.footer.head || footer.first !== before.footer.last + 1))
    return `${path} does not follow the segment before it`
  return undefined
}

const sealedIn = (files: FileOperations, number: number, { path, removed }: { path: string; removed: boolean }) => {
  const read = readFooter(files, path)
  const segment: SealedSegment = {
    number,
    path,
    removed,
    bytes: read?.size ?? files.stateAt(path)?.size ?? 0,
    footer: read?.footer,
  }
  return { segment, checkpoint: read?.checkpoint }
}

/**
 * Reads what a folder holds of a chain: of sealed segments the footers, the last segment whole.
 * @throws DamagedEnd where it is not known where the chain goes on; whatever the files throw
 */
export const readFolder = (files: FileOperations, folder: string, { node, installation }: ChainName): FoundChain => {
  const found = [...filesOf(files, folder, node)].sort(([a], [b]) => a - b)
  const sealed: SealedSegment[] = []
  const problems: string[] = []
  let checkpoint: AuditCheckpoint | undefined
  const addSealed = (number: number, file: { path: string; removed: boolean }): void => {
    const { segment, checkpoint: its } = sealedIn(files, number, file)
    const problem = problemOf(sealed.at(-1), segment)
    if (problem !== undefined) problems.push(problem)
    checkpoint = its ?? checkpoint
    sealed.push(segment)
  }
  const last = found.pop()
  for (const [number, file] of found) addSealed(number, file)
  if (last === undefined) return { sealed, open: undefined, head: undefined, checkpoint, last: 0, problems }
  const [number, file] = last
  if (file.removed) {
    addSealed(number, file)
    const footer = sealed.at(-1)!.footer
    if (footer === undefined)
      throw new DamagedEnd({ path: file.path, byte: 0, why: 'it is no footer of a segment: it was altered' })
    return {
      sealed,
      open: undefined,
      head: { seq: footer.last, hash: footer.head },
      checkpoint,
      last: number,
      problems,
    }
  }
  const scanned = scanSegment(files, file.path)
  const { header, footer, head } = scanned
  if (header.installation !== installation || header.node !== node || header.number !== number)
    throw new DamagedEnd({
      path: file.path,
      byte: 0,
      why:
        header.installation === installation
          ? `it is segment ${header.number} of the node ${header.node}, under another name`
          : 'it belongs to another installation: its keys or its store are not those that it was written with',
    })
  problems.push(...scanned.damage.map(describe))
  checkpoint = scanned.checkpoint ?? checkpoint
  if (footer !== undefined) {
    addSealed(number, file)
    return { sealed, open: undefined, head, checkpoint, last: number, problems }
  }
  const before = sealed.at(-1)
  if (number !== (before?.number ?? 0) + 1) problems.push(`segment ${number - 1} of the audit log is missing`)
  else if (before?.footer !== undefined && header.after !== before.footer.head)
    problems.push(`${file.path} does not follow the segment before it`)
  return { sealed, open: { path: file.path, scanned }, head, checkpoint, last: number, problems }
}
