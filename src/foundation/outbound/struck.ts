import { z } from 'zod'

const MAX_WORDS_LENGTH = 200

/** Runs of characters as tokens are made of, long, and with a digit or very long: words of a language are not. */
const TOKEN_LIKE = /(?=[A-Za-z0-9_~+=./-]*\d)[A-Za-z0-9_~+=./-]{16,}|[A-Za-z0-9_~+=-]{32,}/g

/** Another service's words without what could be a secret, on one line, and not too many of them. */
export const struck = (text: string): string =>
  text
    .replace(/<(script|style)\b[\s\S]*?<\/\1>|<[^>]*>/gi, ' ')
    .replace(/[^\x20-\x7e]+|\s+/g, ' ')
    .replace(TOKEN_LIKE, '***')
    .trim()
    .slice(0, MAX_WORDS_LENGTH)

/** Members of a JSON answer hold tokens, whatever they look like: of such an answer only the names are told. */
export const told = (body: string): string => {
  try {
    return `members ${Object.keys(z.record(z.string(), z.unknown()).parse(JSON.parse(body)))
      .map(struck)
      .join(', ')}`.slice(0, MAX_WORDS_LENGTH)
  } catch {
    return /^\s*[[{"]/.test(body) ? '' : struck(body)
  }
}
