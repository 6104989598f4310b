import { createHash } from 'node:crypto'
import type { Clock } from '#clock'
import type { AuditRow, AuditStore } from '#foundation/store'
import { prevOf } from '../continuity.ts'
import type { ChainName } from '../format/chain.ts'
import {
  checkpointLine,
  footerLine,
  headerLine,
  headerOf,
  isFooterSigned,
  readLine,
  recordLine,
  signFooter,
  type SegmentFooter,
} from '../format/segment.ts'
import type { Sign, VerifySignature } from '../format/signature.ts'
import { ALL_CONFIRMED, type Confirmation, DeliveryError, type BatchLimits, type Delivery } from './delivery.ts'
import { isInChain, type Mark } from './position.ts'

/** Where segments are kept. Nothing there is ever written again. */
export interface SegmentArchive {
  /** Keeps it durably. @returns false where there is something of this name already, which is left as it is */
  put(name: string, content: Buffer, signal: AbortSignal): Promise<boolean>
  /** Undefined where there is nothing of this name. @throws Error for what is longer than `longest` bytes */
  get(name: string, longest: number, signal: AbortSignal): Promise<Buffer | undefined>
  close(): Promise<void>
}

export interface SegmentOptions {
  readonly name: string
  readonly limits: BatchLimits
  /** ms after which a segment is sealed that is not full. */
  readonly sealAfter: number
  readonly archive: SegmentArchive
  readonly chain: ChainName
  readonly store: AuditStore
  readonly sign: Sign
  readonly verifySignature: VerifySignature
  readonly clock: Clock
}

/**
 * What a segment is longer than its records, at most, in proportion; and the room for its header, footer and
 * checkpoints (bytes).
 */
const LINE_OVERHEAD = 2
const ROOM_BYTES = 16_777_216

/** Names sort as the numbers do. */
const nameOf = (node: string, number: number): string => `${node}/${String(number).padStart(10, '0')}.jsonl`

/**
 * Sealed segments of docs/audit-format.md, numbered from 1. A segment ends with a record that a checkpoint signs,
 * wherever there is one, so that every checkpoint is in the archive. A segment that is there already, because the
 * daemon ended before it had written its position, is read, compared and taken over.
 */
export class SegmentDelivery implements Delivery {
  readonly name: string
  readonly limits: BatchLimits
  readonly linger: number
  readonly mark: Mark
  readonly #options: SegmentOptions
  /** The number of the last segment. */
  #number = 0
  /** The last record that the archive has. */
  #covered = 0

  constructor(options: SegmentOptions) {
    this.name = options.name
    this.limits = options.limits
    this.linger = options.sealAfter
    this.#options = options
    this.mark = {
      read: () => String(this.#number),
      restore: (text) => {
        this.#number = Number(text)
      },
    }
    // `deliver` takes it out of the object.
    this.send = this.send.bind(this)
  }

  async cut(rows: readonly AuditRow[], isFull: boolean): Promise<readonly AuditRow[]> {
    const last = (await this.#checkpointsOf(rows)).at(-1)
    if (last === undefined) return isFull ? rows : []
    return rows.slice(0, rows.findIndex(({ seq }) => seq === last.seq) + 1)
  }

  async send(rows: readonly AuditRow[], signal: AbortSignal): Promise<Confirmation> {
    const { archive, chain } = this.#options
    for (;;) {
      const rest = rows.filter(({ seq }) => seq > this.#covered)
      if (rest.length === 0) return ALL_CONFIRMED
      const number = this.#number + 1
      const name = nameOf(chain.node, number)
      const isNew = await archive.put(name, await this.#seal(rest, number), signal)
      this.#covered = isNew ? rest.at(-1)!.seq : await this.#takeOver(name, rest[0]!, number, signal)
      this.#number = number
    }
  }

  close(): Promise<void> {
    return this.#options.archive.close()
  }

  async #checkpointsOf(rows: readonly AuditRow[]) {
    const [first, last] = [rows[0]!, rows.at(-1)!]
    const found = await this.#options.store.checkpoints(undefined, { afterSeq: first.seq - 1, limit: rows.length })
    const seqs = new Set(rows.map(({ seq }) => seq))
    return found.filter(({ seq }) => seq <= last.seq && seqs.has(seq))
  }

  async #seal(rows: readonly AuditRow[], number: number): Promise<Buffer> {
    const { chain, sign, clock } = this.#options
    const [first, last] = [rows[0]!, rows.at(-1)!]
    const checkpoints = Map.groupBy(await this.#checkpointsOf(rows), ({ seq }) => seq)
    const header = headerOf(chain, { number, first: first.seq, after: prevOf(first), at: clock.now() })
    const content = Buffer.from(
      [
        headerLine(header),
        ...rows.flatMap((row) => [recordLine(row), ...(checkpoints.get(row.seq) ?? []).map(checkpointLine)]),
      ].join(''),
    )
    const unsigned = {
      ...header,
      last: last.seq,
      head: last.hash,
      from: first.at,
      to: last.at,
      bytes: content.length,
      digest: digestOf(content),
      sealed: clock.now(),
    }
    return Buffer.concat([content, Buffer.from(footerLine(signFooter(unsigned, sign)))])
  }

  /**
   * @returns the last record of a segment that is there already. @throws DeliveryError where it is not one of this
   * chain
   */
  async #takeOver(name: string, first: AuditRow, number: number, signal: AbortSignal): Promise<number> {
    const { archive, chain, limits, store } = this.#options
    const found = await archive.get(name, limits.bytes * LINE_OVERHEAD + ROOM_BYTES, signal)
    const footer = found === undefined ? undefined : this.#footerOf(found)
    const isOurs =
      footer !== undefined &&
      footer.installation === chain.installation &&
      footer.node === chain.node &&
      footer.number === number &&
      footer.first === first.seq &&
      footer.after === prevOf(first) &&
      (await isInChain(store, { seq: footer.last, hash: footer.head }))
    if (!isOurs)
      throw new DeliveryError(
        `${name} is there already and is not the segment that follows: another installation or an earlier sink wrote there, or it was altered; name another place for this sink`,
      )
    return footer.last
  }

  /** Of a segment that is whole and signed; undefined for anything else. */
  #footerOf(content: Buffer): SegmentFooter | undefined {
    const start = content.lastIndexOf(0x0a, content.length - 2) + 1
    const line = readLine(content.subarray(start, -1).toString())
    if (content.at(-1) !== 0x0a || line?.kind !== 'footer') return undefined
    const { footer } = line
    const isWhole = footer.bytes === start && footer.digest === digestOf(content.subarray(0, start))
    return isWhole && isFooterSigned(footer, this.#options.verifySignature) ? footer : undefined
  }
}

const digestOf = (content: Uint8Array): string => createHash('sha256').update(content).digest('hex')
