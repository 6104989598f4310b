import { PassThrough, type Transform } from 'node:stream'
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib'
import { each, type RawHeaders } from './headers.ts'
import { createRedaction, needlesOf, type Needles } from './rewriter.ts'
import { unreadable } from './upstream.ts'

/** By the name of the content coding (RFC 9110 section 8.4.1). */
const DECODERS = new Map<string, () => Transform>([
  ['gzip', createGunzip],
  ['x-gzip', createGunzip],
  ['deflate', createInflate],
  ['br', createBrotliDecompress],
  ['zstd', createZstdDecompress],
  ['identity', () => new PassThrough()],
])

/** @param coding of `codingOf` @throws DeputyError `upstream_unreachable` for a coding that cannot be read */
export const createDecoder = (coding: string, origin: string): Transform => {
  const decoder = DECODERS.get(coding)?.()
  if (decoder === undefined) throw unreadable(origin, coding)
  return decoder
}

/**
 * The headers of an answer without the secrets: none may come back in them, also when bodies are not searched (threat
 * 27).
 */
export const withoutSecrets = (headers: RawHeaders, needles: Needles): string[] => {
  const all = headers.join('\n')
  const found = needles.all.filter((needle) => all.includes(needle.toString('latin1')))
  if (found.length === 0) return [...headers]
  return headers.map((text) => {
    const redaction = createRedaction(needlesOf(found))
    return Buffer.concat([redaction.write(Buffer.from(text, 'latin1')), redaction.end()]).toString('latin1')
  })
}

/** How a body is encoded; several codings make a name of which there is no decoder. */
export const codingOf = (headers: RawHeaders): string =>
  [...each(headers)]
    .filter(([lower]) => lower === 'content-encoding')
    .map(([, , value]) => value.trim().toLowerCase())
    .join(',')
