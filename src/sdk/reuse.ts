import type { Token } from './token.ts'

/** The longest time for which a revocation may go unnoticed (ms). */
export const MAX_REUSE_MS = 60_000
/** Tokens that are kept. */
const MAX_TOKENS = 1000

/**
 * Tokens that are used again for a while, each for the request that it answered.
 * @param options.span how long (ms); 0: each is requested anew
 */
export const createReuse = ({ span, now }: { readonly span: number; readonly now: () => number }) => {
  const kept = new Map<string, { readonly token: Token; readonly until: number }>()
  const forget = (): void => {
    for (const [key, { until }] of kept) {
      if (until > now() && kept.size <= MAX_TOKENS) break
      kept.delete(key)
    }
  }
  /** @param keyOf called only when reuse is on. @param afresh the token that is kept was refused */
  return async (keyOf: () => string, request: () => Promise<Token>, afresh: boolean): Promise<Token> => {
    if (span === 0) return request()
    const key = keyOf()
    const found = kept.get(key)
    if (!afresh && found !== undefined && found.until > now()) return found.token
    kept.delete(key)
    const requestedAt = now()
    const token = await request()
    kept.delete(key)
    kept.set(key, { token, until: Math.min(requestedAt + span, token.expiresAt) })
    forget()
    return token
  }
}
