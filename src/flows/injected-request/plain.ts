/**
 * Answers in the form in which a secret can be seen. What Deputy decodes for its callers, the charset of a text and the
 * escapes of JSON, could carry a secret past a search of the bytes.
 */
import { each } from './headers.ts'
import { createRedaction, type Needles } from './rewriter.ts'

interface Answer {
  /** Names and values in turn. */
  readonly headers: readonly string[]
  readonly body: Buffer
}

const CHARSET = /charset\s*=\s*"?([\w:.-]{1,40})"?/i

const withoutSecretBytes = (bytes: Buffer, needles: Needles): Buffer => {
  const redaction = createRedaction(needles)
  return Buffer.concat([redaction.write(bytes), redaction.end()])
}

/** A text of another charset as UTF-8; undefined where it is UTF-8 already, or of a charset that is unknown. */
const inUtf8 = ({ headers, body }: Answer): Answer | undefined => {
  const type = [...each(headers)].find(([lower]) => lower === 'content-type')?.[2] ?? ''
  const charset = CHARSET.exec(type)?.[1]
  if (charset === undefined || /^(utf-?8|us-ascii)$/i.test(charset)) return undefined
  try {
    const text = new TextDecoder(charset).decode(body)
    return {
      headers: [...each(headers)].flatMap(([lower, name, value]) => [
        name,
        lower === 'content-type' ? value.replace(CHARSET, 'charset=utf-8') : value,
      ]),
      body: Buffer.from(text),
    }
  } catch {
    return undefined
  }
}

/** Escapes that JSON does not need, as the characters that they stand for. Valid JSON stays the same JSON. */
const unescaped = (text: string): string =>
  text.replace(/\\(?:u([0-9a-f]{4})|([^]))/gi, (escape, code: string | undefined, plain: string | undefined) => {
    if (plain === '/') return '/'
    if (code === undefined) return escape
    const at = Number.parseInt(code, 16)
    if (at === 0x22 || at === 0x5c) return `\\${String.fromCharCode(at)}`
    return at < 0x20 ? escape : String.fromCharCode(at)
  })

/** The body without escapes, if a secret comes to light in it. */
const seenThrough = (body: Buffer, needles: Needles): Buffer => {
  if (!body.includes('\\u') && !body.includes('\\/')) return body
  const plain = Buffer.from(unescaped(body.toString('utf8')))
  const shown = withoutSecretBytes(plain, needles)
  return shown.equals(plain) ? body : shown
}

/** An answer whose bytes have been searched, searched again in the form in which it is read. */
export const plainOf = <T extends Answer>(answer: T, needles: Needles): T => {
  const decoded = inUtf8(answer)
  const { headers, body } = decoded ?? answer
  return {
    ...answer,
    headers,
    body: seenThrough(decoded === undefined ? body : withoutSecretBytes(body, needles), needles),
  }
}
