import { createCipheriv, createDecipheriv } from 'node:crypto'

/** Bytes of a chunk before it is sealed. */
export const CHUNK = 65_536
const TAG = 16
const COUNTER = 11

/**
 * The nonce of a chunk: its number, and whether it is the last one. No two chunks under one key share it, no chunk opens in the
 * place of another, and a file that was cut off has no last chunk (the STREAM construction, https://eprint.iacr.org/2015/189).
 */
const nonceOf = (number: number, isLast: boolean): Buffer => {
  const nonce = Buffer.alloc(COUNTER + 1)
  nonce.writeUIntBE(number, COUNTER - 6, 6)
  nonce[COUNTER] = isLast ? 1 : 0
  return nonce
}

const sealChunk = (key: Uint8Array, number: number, isLast: boolean, chunk: Uint8Array): Buffer => {
  const cipher = createCipheriv('aes-256-gcm', key, nonceOf(number, isLast))
  return Buffer.concat([cipher.update(chunk), cipher.final(), cipher.getAuthTag()])
}

/** @throws Error when the chunk was altered, or is another one than the nonce says */
const openChunk = (key: Uint8Array, number: number, isLast: boolean, sealed: Uint8Array): Buffer => {
  const end = sealed.length - TAG
  if (end < 0) throw new Error('the chunk is too short')
  const decipher = createDecipheriv('aes-256-gcm', key, nonceOf(number, isLast), { authTagLength: TAG })
  decipher.setAuthTag(sealed.subarray(end))
  return Buffer.concat([decipher.update(sealed.subarray(0, end)), decipher.final()])
}

/** Seals a stream of bytes in chunks (AES-256-GCM). A key seals one stream. It keeps one chunk in memory. */
export class SealedWriter {
  readonly #key: Uint8Array
  readonly #write: (bytes: Uint8Array) => Promise<void>
  readonly #chunk = Buffer.alloc(CHUNK)
  #filled = 0
  #number = 0

  constructor(key: Uint8Array, write: (bytes: Uint8Array) => Promise<void>) {
    this.#key = key
    this.#write = write
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length;) {
      // A full chunk waits for the byte after it: only then is it known not to be the last one.
      if (this.#filled === CHUNK) await this.#flush(false)
      const piece = bytes.subarray(at, at + CHUNK - this.#filled)
      this.#chunk.set(piece, this.#filled)
      this.#filled += piece.length
      at += piece.length
    }
  }

  /** Without it the stream counts as cut off. */
  async end(): Promise<void> {
    await this.#flush(true)
  }

  async #flush(isLast: boolean): Promise<void> {
    const sealed = sealChunk(this.#key, this.#number, isLast, this.#chunk.subarray(0, this.#filled))
    this.#number += 1
    this.#filled = 0
    await this.#write(sealed)
  }
}

/** Reads up to `length` bytes at a place; fewer only at the end. */
export type ReadAt = (position: number, length: number) => Promise<Buffer>

/** A chunk that does not open: the file was altered or cut off there. */
export class AlteredChunk extends Error {
  readonly byte: number
  constructor(byte: number, cause?: unknown) {
    super(`altered or cut off at byte ${byte}`, { cause })
    this.byte = byte
  }
}

/**
 * The bytes of a sealed stream, chunk by chunk. What comes was authenticated; that nothing is missing is known at the end.
 * @throws AlteredChunk
 */
export async function* openSealed(
  key: Uint8Array,
  readAt: ReadAt,
  { from, to }: { readonly from: number; readonly to: number },
): AsyncGenerator<Buffer> {
  let at = from
  for (let number = 0; ; number += 1) {
    const length = Math.min(CHUNK + TAG, to - at)
    const isLast = at + length >= to
    let opened: Buffer
    try {
      const sealed = await readAt(at, length)
      opened = openChunk(key, number, isLast, sealed)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).syscall !== undefined) throw error
      throw new AlteredChunk(at, error)
    }
    yield opened
    if (isLast) return
    at += length
  }
}
