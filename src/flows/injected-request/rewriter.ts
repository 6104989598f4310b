/** Takes a stream in chunks, however they are cut, and gives it back changed. */
export interface Rewriter {
  write(chunk: Buffer): Buffer
  /** What was held back. */
  end(): Buffer
}

const NOTHING = Buffer.alloc(0)

/** How many bytes at the end of the input may begin a placeholder. The longest such end counts. */
const beginningAtEnd = (bytes: Buffer, placeholder: Buffer, from: number): number => {
  const first = placeholder[0]!
  for (
    let at = bytes.indexOf(first, Math.max(from, bytes.length - placeholder.length + 1));
    at >= 0;
    at = bytes.indexOf(first, at + 1)
  ) {
    if (bytes.compare(placeholder, 0, bytes.length - at, at, bytes.length) === 0) return bytes.length - at
  }
  return 0
}

/** Puts a value in the place of every occurrence, from left to right. */
export const createReplacement = (placeholder: Buffer, value: Buffer): Rewriter => {
  let held: Buffer = NOTHING
  return {
    write(chunk) {
      const bytes = held.length === 0 ? chunk : Buffer.concat([held, chunk])
      const parts: Buffer[] = []
      let from = 0
      for (let at = bytes.indexOf(placeholder); at >= 0; at = bytes.indexOf(placeholder, from)) {
        parts.push(bytes.subarray(from, at), value)
        from = at + placeholder.length
      }
      const end = bytes.length - beginningAtEnd(bytes, placeholder, from)
      held = bytes.subarray(end)
      return parts.length === 0 ? bytes.subarray(0, end) : Buffer.concat([...parts, bytes.subarray(from, end)])
    },
    end: () => held,
  }
}

const STAR = 0x2a

/** What is looked for, made ready once. */
export interface Needles {
  readonly all: readonly Buffer[]
  /** 1 for each byte that may be a part of them: all that is visible, so that it reveals nothing about them, and every other byte that they have. */
  readonly bytes: Uint8Array
  /** How much of the longest can have come without the end of it. */
  readonly longest: number
}

export const needlesOf = (all: readonly Buffer[]): Needles => {
  const bytes = new Uint8Array(256).fill(1, 0x21, 0x7f)
  for (const needle of all) for (const byte of needle) bytes[byte] = 1
  return { all, bytes, longest: Math.max(0, ...all.map(({ length }) => length - 1)) }
}

/**
 * Writes stars over every occurrence of any of the needles, so that lengths stay as they are announced. Occurrences may
 * overlap: a byte is redacted if it belongs to any of them. The last word of a chunk waits for what follows, whatever it is:
 * were it to wait only where it could be the beginning of a secret, a caller that has a service repeat guesses would see which
 * of them are.
 */
export const createRedaction = ({ all: needles, bytes: known, longest }: Needles): Rewriter => {
  // The same bytes twice: as they came, to be searched, and as they will be shown.
  let held: Buffer = NOTHING
  let shown: Buffer = NOTHING
  return {
    write(chunk) {
      const bytes = held.length === 0 ? chunk : Buffer.concat([held, chunk])
      let redacted = held.length === 0 ? undefined : Buffer.concat([shown, chunk])
      for (const needle of needles) {
        for (let at = bytes.indexOf(needle); at >= 0; at = bytes.indexOf(needle, at + 1)) {
          redacted ??= Buffer.from(bytes)
          redacted.fill(STAR, at, at + needle.length)
        }
      }
      const all = redacted ?? bytes
      let end = bytes.length
      while (end > 0 && bytes.length - end < longest && known[bytes[end - 1]!] === 1) end -= 1
      // Copied: a few bytes must not keep a large chunk alive.
      held = end === bytes.length ? NOTHING : Buffer.from(bytes.subarray(end))
      shown = end === bytes.length ? NOTHING : Buffer.from(all.subarray(end))
      return all.subarray(0, end)
    },
    end: () => shown,
  }
}
