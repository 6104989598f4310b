/**
 * Parts joined so that they cannot run into each other: a four-byte big-endian length before each. Used as the
 * additional data of ciphertexts and as the input of keyed hashes.
 */
export const lengthPrefixed = (...parts: readonly string[]): Buffer => {
  const pieces: Buffer[] = []
  for (const part of parts) {
    const bytes = Buffer.from(part, 'utf8')
    const length = Buffer.alloc(4)
    length.writeUInt32BE(bytes.length)
    pieces.push(length, bytes)
  }
  return Buffer.concat(pieces)
}
