/** Messages of a client after which the server says once more that it is ready: Query, Sync and FunctionCall. */
const ASKING = new Set(['Q', 'S', 'F'])
/** Messages of a client that belong to a COPY which is under way: CopyData, CopyDone and CopyFail. */
const OF_A_COPY = new Set(['d', 'c', 'f'])
const HEAD_BYTES = 5

/** Calls for each message of a stream, with its type and the first byte of its body. It holds no body. */
const createSplitter = (onMessage: (type: string, first: number | undefined) => void) => {
  let head = Buffer.alloc(0)
  /** Bytes of the body that are still to come; undefined: a head is. */
  let left: number | undefined
  let first: number | undefined
  let isBroken = false
  const finish = (): void => {
    onMessage(String.fromCharCode(head[0]!), first)
    head = Buffer.alloc(0)
    left = undefined
    first = undefined
  }
  return {
    /** Whether the stream is between two messages. */
    isWhole: () => !isBroken && head.length === 0,
    write(chunk: Buffer): void {
      let at = 0
      while (at < chunk.length && !isBroken) {
        if (left === undefined) {
          const end = Math.min(chunk.length, at + HEAD_BYTES - head.length)
          head = Buffer.concat([head, chunk.subarray(at, end)])
          at = end
          if (head.length < HEAD_BYTES) return
          left = head.readInt32BE(1) - 4
          isBroken = left < 0
        } else {
          first ??= chunk[at]
          const taken = Math.min(left, chunk.length - at)
          at += taken
          left -= taken
        }
        if (left === 0) finish()
      }
    },
  }
}

const IN_NO_TRANSACTION = 'I'.charCodeAt(0)

/**
 * Whether a server has something to do for a client. Clients may send queries before the answers to earlier ones have
 * come (pipelining), so that what they have asked is counted against what the server has answered.
 * @see https://www.postgresql.org/docs/current/protocol-flow.html
 */
export class Activity {
  /** What each ReadyForQuery that is to come answers, in order. */
  #asked: string[] = []
  /** The client has sent messages that it asks nothing for yet. */
  #isUnasked = false
  #isInTransaction = false
  /** A COPY of an extended query takes data: the server ignores Sync until it ends. */
  #isCopying = false
  readonly #client = createSplitter((type) => {
    if (OF_A_COPY.has(type)) {
      if (type !== 'd') this.#isCopying = false
    } else if (ASKING.has(type)) {
      if (this.#isCopying) return
      this.#asked.push(type)
      this.#isUnasked = false
    } else this.#isUnasked = true
  })
  readonly #server = createSplitter((type, first) => {
    if (type === 'Z') {
      this.#asked.shift()
      this.#isCopying = false
      this.#isInTransaction = first !== IN_NO_TRANSACTION
    } else if (type === 'E') this.#isCopying = false
    else if (type === 'G' && this.#asked[0] !== 'Q') {
      // Those that came before the end of the data are ignored.
      this.#asked = []
      this.#isCopying = true
      this.#isUnasked = true
    }
  })

  fromClient(chunk: Buffer): void {
    this.#client.write(chunk)
  }

  fromServer(chunk: Buffer): void {
    this.#server.write(chunk)
  }

  get isIdle(): boolean {
    return (
      this.#asked.length === 0 &&
      !this.#isUnasked &&
      !this.#isInTransaction &&
      this.#client.isWhole() &&
      this.#server.isWhole()
    )
  }
}
