import { createHmac, hkdfSync, scrypt, timingSafeEqual, type ScryptOptions } from 'node:crypto'
import { z } from 'zod'
import type { Random } from '#clock'
import type { Secret } from '#foundation/crypto'

/** The version of the format in docs/backup.md. */
export const FORMAT = 1

/** Bytes of the first line at most. */
export const MAX_HEADER_BYTES = 1024

/** scrypt (RFC 7914) with 128 MiB: half a second for each guess of a passphrase. */
const COST = { n: 131_072, r: 8, p: 1 } as const
/** What a file may ask for: it is read before it is known to be genuine (bytes). */
const MAX_MEMORY = 536_870_912
const MAX_PARALLEL = 4

const kdfSchema = z.strictObject({
  name: z.literal('scrypt'),
  n: z.int().min(16_384).max(1_048_576),
  r: z.int().min(1).max(32),
  p: z.int().min(1).max(MAX_PARALLEL),
  salt: z.base64().length(44),
})
const headerSchema = z.strictObject({
  deputy_backup: z.strictObject({
    format: z.literal(FORMAT),
    kind: z.string().regex(/^[a-z-]{1,32}$/),
    kdf: kdfSchema,
  }),
  mac: z.string(),
})
const anyFormatSchema = z.looseObject({ deputy_backup: z.looseObject({ format: z.int() }) })
type Plain = z.output<typeof headerSchema>['deputy_backup']

/** The key of the content, and the line that a file begins with. */
export interface FileKey {
  readonly kind: string
  readonly key: Uint8Array
  readonly line: string
}

const stretch = (passphrase: Secret, { n, r, p, salt }: z.output<typeof kdfSchema>): Promise<Buffer> => {
  const options: ScryptOptions = { N: n, r, p, maxmem: 256 * n * r }
  return new Promise((resolve, reject) => {
    scrypt(passphrase.reveal(), Buffer.from(salt, 'base64'), 32, options, (error, key) => {
      if (error === null) resolve(key)
      else reject(error)
    })
  })
}

/** Both keys depend on all that the header says. */
const keysOf = async (passphrase: Secret, plain: Plain): Promise<{ key: Uint8Array; mac: Buffer }> => {
  const stretched = await stretch(passphrase, plain.kdf)
  const text = JSON.stringify(plain)
  const derive = (what: string): Buffer =>
    Buffer.from(hkdfSync('sha256', stretched, Buffer.alloc(0), `deputy backup ${what}\n${text}`, 32))
  return { key: derive('content'), mac: createHmac('sha256', derive('header')).update(text).digest() }
}

/** A key for one file: its salt is fresh, so that no two files share a key. */
export const newFileKey = async (passphrase: Secret, kind: string, random: Random): Promise<FileKey> => {
  const salt = Buffer.from(random.bytes(32)).toString('base64')
  const plain: Plain = { format: FORMAT, kind, kdf: { name: 'scrypt', ...COST, salt } }
  const { key, mac } = await keysOf(passphrase, plain)
  return { kind, key, line: `${JSON.stringify({ deputy_backup: plain, mac: mac.toString('base64') })}\n` }
}

/** How a file begins. */
const BEGIN = '{"deputy_backup":'

/** Whether a file begins as a backup does. */
export const isBackup = (begin: Buffer): boolean => begin.toString('latin1', 0, BEGIN.length) === BEGIN

/** What a file says that it holds, before its key is known; undefined for one that is no backup. */
export const kindIn = (line: string | undefined): string | undefined => {
  try {
    return headerSchema.safeParse(JSON.parse(line ?? '')).data?.deputy_backup.kind
  } catch {
    return undefined
  }
}

/** Why the first line of a file gives no key. */
export type HeaderProblem = 'no backup' | 'newer format' | 'wrong key'

/** @param line with its line feed; undefined where the file has no line */
export const openHeader = async (
  passphrase: Secret,
  line: string | undefined,
): Promise<FileKey | { readonly problem: HeaderProblem }> => {
  let content: unknown
  try {
    content = JSON.parse(line ?? '')
  } catch {
    return { problem: 'no backup' }
  }
  const format = anyFormatSchema.safeParse(content).data?.deputy_backup.format
  if (format !== undefined && format > FORMAT) return { problem: 'newer format' }
  const header = headerSchema.safeParse(content).data
  if (header === undefined || header.deputy_backup.kdf.n * header.deputy_backup.kdf.r * 128 > MAX_MEMORY)
    return { problem: 'no backup' }
  if ((header.deputy_backup.kdf.n & (header.deputy_backup.kdf.n - 1)) !== 0) return { problem: 'no backup' }
  const { key, mac } = await keysOf(passphrase, header.deputy_backup)
  const given = Buffer.from(header.mac, 'base64')
  if (given.length !== mac.length || !timingSafeEqual(given, mac)) return { problem: 'wrong key' }
  return { kind: header.deputy_backup.kind, key, line: line! }
}
