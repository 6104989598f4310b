import type { AuditCheckpoint } from '#foundation/store'
import type { ChainName } from '../format/chain.ts'
import { signCheckpoint } from '../format/checkpoint.ts'
import type { Sign } from '../format/signature.ts'
import { WatchedSink, type SinkStatus, type Watch } from '../sinks/watched-sink.ts'
import type { ChainWriter } from './chain-writer.ts'

export interface CheckpointOptions extends Watch {
  /** A checkpoint is signed after so many records, */
  readonly checkpointEvery: number
  /** and so long after the first record that it covers (ms). */
  readonly checkpointWithin: number
  readonly sign: Sign
  /** Hears of each checkpoint that is durable. */
  readonly signed?: (checkpoint: AuditCheckpoint) => void
}

/** When a chain is signed, and that. The records are durable before: a checkpoint that fails refuses none of them. */
export class Checkpoints {
  readonly #options: CheckpointOptions
  readonly #chain: ChainName
  readonly #writer: ChainWriter
  readonly #wake: () => void
  readonly #signer: WatchedSink
  #due: NodeJS.Timeout | undefined
  #isDue = false
  #closed = false

  /** @param wake has the log look whether a checkpoint is wanted */
  constructor(options: CheckpointOptions, chain: ChainName, writer: ChainWriter, wake: () => void) {
    this.#options = options
    this.#chain = chain
    this.#writer = writer
    this.#wake = wake
    this.#signer = new WatchedSink('checkpoint', options)
  }

  /** Not ok while it fails. */
  get status(): SinkStatus {
    return this.#signer.status
  }

  get isWanted(): boolean {
    const { unsigned, isDue } = this.#writer
    return unsigned >= this.#options.checkpointEvery || this.#isDue || isDue || !this.#signer.status.ok
  }

  /** Records that no others follow are signed in time, too. */
  wakeLater(): void {
    if (this.#writer.unsigned === 0 || this.#due !== undefined || this.#closed) return
    this.#due = setTimeout(() => {
      this.#due = undefined
      this.#isDue = true
      this.#wake()
    }, this.#options.checkpointWithin)
    this.#due.unref()
  }

  /**
   * Signs the last record, then what else is due. @returns whether that was done; the status has the reason where not
   */
  async take(): Promise<boolean> {
    try {
      await this.#signer.ask(async () => {
        if (this.#writer.unsigned > 0) await this.#sign()
        if (this.#writer.isDue) await this.#writer.tend(this.#options.sign)
      })
      this.#isDue = false
      clearTimeout(this.#due)
      this.#due = undefined
      this.#signer.confirmed()
      return true
    } catch {
      // The signer's status has the reason, and the log has it too.
      return false
    }
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#due)
  }

  async #sign(): Promise<void> {
    const { lastCheckpoint, head } = this.#writer
    const unsigned = { number: lastCheckpoint + 1, seq: head.seq, hash: head.hash, at: this.#options.clock.now() }
    const checkpoint = signCheckpoint(this.#chain, unsigned, this.#options.sign)
    await this.#writer.addCheckpoint(checkpoint)
    this.#options.signed?.(checkpoint)
  }
}
