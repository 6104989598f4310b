/** `Retry-After` (RFC 9110 section 10.2.3) in ms from now, none of them in the past; undefined where it is none. */
export const readRetryAfter = (text: string | null | undefined, now: number): number | undefined => {
  if (text === null || text === undefined) return undefined
  const value = text.trim()
  const wait = /^\d{1,9}$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now
  return Number.isFinite(wait) ? Math.max(0, wait) : undefined
}
