import { createHash } from 'node:crypto'
import { z } from 'zod'

/** Characters of a line at most: no reader keeps more than that. */
const MAX_LINE_BYTES = 16_777_216
const LINE_FEED = 0x0a

/** A path below the four roots of a backup; none leads out of them. */
const pathSchema = z
  .string()
  .max(1024)
  .regex(/^(configuration|store|audit|keys)\//)
  .refine((path) => path.split('/').every((name) => !['', '.', '..'].includes(name)) && !/[\0\\]/.test(path))

const entrySchema = z.strictObject({
  path: pathSchema,
  mode: z.int().min(0).max(0o777),
  bytes: z.int().min(0),
})
/** A file in a backup. */
export type Entry = z.output<typeof entrySchema>

const lineSchema = z.union([
  z.strictObject({ entry: entrySchema }),
  z.strictObject({ end: z.strictObject({ entries: z.int().min(0) }) }),
])
const digestSchema = z.strictObject({ sha256: z.string().length(64) })

/** What is wrong with the content of a file that opened: another program wrote it, or a fault of this one. */
export class BadContent extends Error {}

/** A file to be put into a backup; `content` gives exactly `bytes` bytes. */
export interface Source extends Entry {
  readonly content: AsyncIterable<Uint8Array> | Iterable<Uint8Array>
}

/** Writes a manifest and files as lines and bytes: docs/backup.md. */
export const writeContent = async (
  write: (bytes: Uint8Array) => Promise<void>,
  manifest: object,
  sources: AsyncIterable<Source> | Iterable<Source>,
): Promise<void> => {
  const line = (value: object): Promise<void> => write(Buffer.from(`${JSON.stringify(value)}\n`))
  await line({ manifest })
  let entries = 0
  for await (const { content, path, mode, bytes } of sources) {
    await line({ entry: entrySchema.parse({ path, mode, bytes }) })
    const digest = createHash('sha256')
    let written = 0
    for await (const piece of content) {
      digest.update(piece)
      written += piece.length
      await write(piece)
    }
    if (written !== bytes) throw new BadContent(`${path} has ${written} bytes and had ${bytes}`)
    await line({ sha256: digest.digest('hex') })
    entries += 1
  }
  await line({ end: { entries } })
}

/** Gives lines and counted bytes out of a stream. */
class Reader {
  readonly #stream: AsyncIterator<Uint8Array>
  #rest: Buffer = Buffer.alloc(0)

  constructor(stream: AsyncIterator<Uint8Array>) {
    this.#stream = stream
  }

  async line(): Promise<unknown> {
    for (;;) {
      const end = this.#rest.indexOf(LINE_FEED)
      if (end >= 0) {
        const text = this.#rest.toString('utf8', 0, end)
        this.#rest = this.#rest.subarray(end + 1)
        try {
          return JSON.parse(text)
        } catch {
          throw new BadContent('a line of it cannot be read')
        }
      }
      if (this.#rest.length > MAX_LINE_BYTES || !(await this.#more())) throw new BadContent('it has no end')
    }
  }

  async *bytes(count: number): AsyncGenerator<Buffer> {
    for (let left = count; left > 0;) {
      if (this.#rest.length === 0 && !(await this.#more())) throw new BadContent('it has no end')
      const piece = this.#rest.subarray(0, left)
      this.#rest = this.#rest.subarray(piece.length)
      left -= piece.length
      yield piece
    }
  }

  async isOver(): Promise<boolean> {
    while (this.#rest.length === 0) if (!(await this.#more())) return true
    return false
  }

  async #more(): Promise<boolean> {
    const { done, value } = await this.#stream.next()
    if (done === true) return false
    this.#rest = this.#rest.length === 0 ? Buffer.from(value) : Buffer.concat([this.#rest, value])
    return true
  }
}

/** Takes what a backup holds, in its order. */
export interface Visitor {
  /** @throws to refuse a backup before anything of it is taken */
  manifest(manifest: unknown): void
  /** Takes as much of the content as it needs: the rest is read behind it. The bytes were authenticated. */
  entry(entry: Entry, content: AsyncIterable<Buffer>): Promise<void>
}

/** @throws BadContent; AlteredChunk of the stream; whatever the visitor throws */
export const readContent = async (stream: AsyncGenerator<Uint8Array>, visitor: Visitor): Promise<void> => {
  const reader = new Reader(stream)
  const first = z.strictObject({ manifest: z.unknown() }).safeParse(await reader.line()).data
  if (first === undefined) throw new BadContent('it has no manifest')
  visitor.manifest(first.manifest)
  const seen = new Set<string>()
  for (;;) {
    const line = lineSchema.safeParse(await reader.line()).data
    if (line === undefined) throw new BadContent('a line of it cannot be read')
    if ('end' in line) {
      if (line.end.entries !== seen.size || !(await reader.isOver())) throw new BadContent('its end is not its end')
      return
    }
    const { entry } = line
    if (seen.has(entry.path)) throw new BadContent(`it has ${entry.path} twice`)
    seen.add(entry.path)
    const digest = createHash('sha256')
    const content = (async function* hashed() {
      for await (const piece of reader.bytes(entry.bytes)) {
        digest.update(piece)
        yield piece
      }
    })()
    // A visitor that stops early does not close it: all of the file has to be authentic, and what its digest says.
    await visitor.entry(entry, { [Symbol.asyncIterator]: () => ({ next: () => content.next() }) })
    for await (const _piece of content) void _piece
    if (digestSchema.safeParse(await reader.line()).data?.sha256 !== digest.digest('hex'))
      throw new BadContent(`${entry.path} has another digest than it was written with`)
  }
}
