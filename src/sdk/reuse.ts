import type { Token } from './token.ts'

/** A revocation should not go unnoticed for longer (ms). */
export const LONGEST_REUSE = 60_000
const MOST = 1000

/**
 * Tokens that are used again for a while, each for the very question that it answered.
 * @param options.span how long (ms); 0: every one is asked for
 */
export const createReuse = ({ span, now }: { readonly span: number; readonly now: () => number }) => {
  const held = new Map<string, { readonly token: Token; readonly until: number }>()
  const forget = (): void => {
    for (const [question, { until }] of held) {
      if (until > now() && held.size <= MOST) break
      held.delete(question)
    }
  }
  /** @param questionOf asked for only where something may be held. @param afresh what is held has turned out to be of no use */
  return async (questionOf: () => string, ask: () => Promise<Token>, afresh: boolean): Promise<Token> => {
    if (span === 0) return ask()
    const question = questionOf()
    const found = held.get(question)
    if (!afresh && found !== undefined && found.until > now()) return found.token
    held.delete(question)
    const askedAt = now()
    const token = await ask()
    held.delete(question)
    held.set(question, { token, until: Math.min(askedAt + span, token.expiresAt) })
    forget()
    return token
  }
}
