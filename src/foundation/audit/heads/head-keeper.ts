import type { AuditCheckpoint, AuditStore } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'
import type { ChainName } from '../format/chain.ts'
import { isCheckpointSigned } from '../format/checkpoint.ts'
import type { VerifySignature } from '../format/signature.ts'
import type { KnownHead } from '../verify/walk.ts'
import {
  headFilePath,
  headFiles,
  noHeads,
  openHeadFolder,
  readHeadFile,
  writeHeadFile,
  type HeadFile,
  type SignedHead,
} from './head-file.ts'

export interface HeadKeeperOptions {
  /** A folder that the owner of the store cannot write. */
  readonly folder: string
  readonly chain: ChainName
  readonly store: AuditStore
  readonly verifySignature: VerifySignature
  readonly logger: Logger
}

const sameHead = (a: SignedHead, b: SignedHead): boolean =>
  a.installation === b.installation && a.node === b.node && a.seq === b.seq && a.hash === b.hash

const nameOf = ({ node, seq }: SignedHead): string => `record ${seq} of the node ${node}`

/**
 * Keeps the newest signed head of every chain in a file outside of the store, so that an end that is cut off, written
 * anew or taken from an older copy is missed. A head that the store has no more is kept until a person acknowledges it,
 * whatever the chain becomes.
 */
export class HeadKeeper {
  readonly #options: HeadKeeperOptions
  readonly #path: string
  #file: HeadFile
  #writing: Promise<void> | undefined
  #again = false
  #problem: string | undefined

  private constructor(options: HeadKeeperOptions, file: HeadFile) {
    this.#options = options
    this.#path = headFilePath(options.folder, options.chain.node)
    this.#file = file
  }

  /**
   * Reads what is known, and compares it with the store.
   * @throws DeputyError `config_invalid` for a folder that others may write; Error for a file that is none
   */
  static async open(options: HeadKeeperOptions): Promise<HeadKeeper> {
    await openHeadFolder(options.folder)
    const file = (await readHeadFile(headFilePath(options.folder, options.chain.node))) ?? noHeads
    const keeper = new HeadKeeper(options, file)
    for (const head of file.heads) await keeper.#compare(head)
    await keeper.#write()
    return keeper
  }

  /** A checkpoint of the own chain that is durable in the store. */
  note(checkpoint: AuditCheckpoint): Promise<void> {
    const { number } = checkpoint
    if (number === null) return Promise.resolve()
    this.#put({ ...this.#options.chain, ...checkpoint, number })
    return this.#write()
  }

  /** Takes over the newest heads of the other nodes' chains: each node is a witness of the others. */
  async look(): Promise<void> {
    const { store, chain, verifySignature, logger } = this.#options
    let changed = false
    for (const { node, number, ...checkpoint } of await store.lastCheckpoints()) {
      const known = this.#file.heads.find((head) => head.node === node)
      if (node === chain.node || number === null || number < (known?.number ?? 0)) continue
      const head: SignedHead = { installation: chain.installation, node, number, ...checkpoint }
      if (known !== undefined && sameHead(known, head)) continue
      if (!isCheckpointSigned(head, head, verifySignature)) {
        logger.error({ node, number }, 'a checkpoint of another node has a wrong signature; run deputy audit verify')
        continue
      }
      if (known !== undefined) await this.#compare(known)
      this.#put(head)
      changed = true
    }
    if (changed) await this.#write()
  }

  /** What is known of all chains: by this node, and by others whose files are in the same folder. */
  async known(): Promise<KnownHead[]> {
    const found: KnownHead[] = []
    const add = (path: string, { heads, missing }: HeadFile): void => {
      for (const head of [...missing, ...heads])
        if (!found.some(({ node, seq, hash }) => node === head.node && seq === head.seq && hash === head.hash))
          found.push({ ...head, source: path })
    }
    add(this.#path, this.#file)
    for (const path of await headFiles(this.#options.folder))
      if (path !== this.#path) add(path, (await readHeadFile(path)) ?? noHeads)
    return found
  }

  /** Heads that are missing in the store. */
  get missing(): readonly SignedHead[] {
    return this.#file.missing
  }

  /** Why heads are not kept, or which of them is missing in the store; undefined while all is well. */
  get problem(): string | undefined {
    if (this.#problem !== undefined) return `the heads of the chains are not kept: ${this.#problem}`
    const [first] = this.#file.missing
    return first === undefined
      ? undefined
      : `${nameOf(first)} was signed and is missing in the store: run deputy audit verify`
  }

  async close(): Promise<void> {
    await this.#writing
  }

  /** A person knows of these. */
  async acknowledge(heads: readonly SignedHead[]): Promise<void> {
    this.#file = {
      ...this.#file,
      missing: this.#file.missing.filter((head) => !heads.some((each) => sameHead(each, head))),
    }
    await this.#write()
  }

  #put(head: SignedHead): void {
    this.#file = { ...this.#file, heads: [...this.#file.heads.filter(({ node }) => node !== head.node), head] }
  }

  /** Whether the store still has a head; where not, it is kept beside those that replace it. */
  async #compare(head: SignedHead): Promise<void> {
    const { store, chain, logger } = this.#options
    const isOurs = head.installation === chain.installation
    const isOwn = isOurs && head.node === chain.node
    // Checkpoints are numbered on: where the store ends before this one, its end was replaced, whatever a search finds
    // there.
    const isBehind = isOwn && ((await store.lastCheckpoint())?.number ?? 0) < head.number
    if (isOwn && !isBehind && (await store.head())?.hash === head.hash) return
    const [row] =
      isOurs && !isBehind ? await store.query({ node: head.node, afterSeq: head.seq - 1 }, { limit: 1 }) : []
    if (row?.seq === head.seq && row.hash === head.hash) return
    // What was removed after its time is gone by right: only a walk can tell, by what stayed of it.
    if (row !== undefined && row.seq > head.seq) return
    this.#file = {
      heads: this.#file.heads.filter((each) => !sameHead(each, head)),
      missing: [...this.#file.missing.filter((each) => !sameHead(each, head)), head],
    }
    logger.error(
      { head: nameOf(head), file: this.#path },
      'a signed audit record is missing in the store: records were removed, or an older copy of the store was put back; run deputy audit verify',
    )
  }

  /** One write at a time; what changes meanwhile is in the next one. */
  #write(): Promise<void> {
    this.#again = true
    this.#writing ??= this.#writeAll()
    return this.#writing
  }

  async #writeAll(): Promise<void> {
    while (this.#again) {
      this.#again = false
      try {
        await writeHeadFile(this.#path, this.#file)
        this.#problem = undefined
      } catch (error) {
        // It is kept in memory; the next checkpoint tries again.
        if (this.#problem === undefined)
          this.#options.logger.error(
            { err: error, file: this.#path },
            'the heads of the audit chains cannot be written',
          )
        this.#problem = (error as Error).message
      }
    }
    this.#writing = undefined
  }
}
