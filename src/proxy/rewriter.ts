/**
 * How many bytes at the end of what came may be the beginning of something that is looked for: they wait for what
 * follows. The longest such end counts.
 */
export const heldBack = (bytes: Buffer, needle: Buffer, from = 0): number => {
  const first = needle[0]!
  for (let at = bytes.indexOf(first, Math.max(from, bytes.length - needle.length + 1)); at >= 0; at = bytes.indexOf(first, at + 1)) {
    if (bytes.compare(needle, 0, bytes.length - at, at, bytes.length) === 0) return bytes.length - at
  }
  return 0
}

/** Takes a stream in chunks, however they are cut, and gives it back changed. */
export interface Rewriter {
  write(chunk: Buffer): Buffer
  /** What was held back. */
  end(): Buffer
}

const NOTHING = Buffer.alloc(0)

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
      const end = bytes.length - heldBack(bytes, placeholder, from)
      held = bytes.subarray(end)
      return parts.length === 0 ? bytes.subarray(0, end) : Buffer.concat([...parts, bytes.subarray(from, end)])
    },
    end: () => held,
  }
}

const STAR = 0x2a

/**
 * Writes stars over every occurrence of any of the needles, so that lengths stay as they are announced. Occurrences may
 * overlap: a byte is struck if it belongs to any of them.
 */
export const createStrike = (needles: readonly Buffer[]): Rewriter => {
  // The same bytes twice: as they came, to be searched, and as they will be shown.
  let held: Buffer = NOTHING
  let shown: Buffer = NOTHING
  return {
    write(chunk) {
      const bytes = held.length === 0 ? chunk : Buffer.concat([held, chunk])
      let struck = held.length === 0 ? undefined : Buffer.concat([shown, chunk])
      let waiting = 0
      for (const needle of needles) {
        for (let at = bytes.indexOf(needle); at >= 0; at = bytes.indexOf(needle, at + 1)) {
          struck ??= Buffer.from(bytes)
          struck.fill(STAR, at, at + needle.length)
        }
        waiting = Math.max(waiting, heldBack(bytes, needle))
      }
      const all = struck ?? bytes
      const end = bytes.length - waiting
      // Copied: a few bytes must not keep a large chunk alive.
      held = waiting === 0 ? NOTHING : Buffer.from(bytes.subarray(end))
      shown = waiting === 0 ? NOTHING : Buffer.from(all.subarray(end))
      return all.subarray(0, end)
    },
    end: () => shown,
  }
}
