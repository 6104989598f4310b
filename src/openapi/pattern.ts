/** Longer patterns are not run. */
const MAX_PATTERN = 200
/** More repetitions than this count as no bound. */
const MAX_REPEAT = 100

/** A character class or an escaped character counts as one character. */
const ATOMS = /\\(?:p\{[^}]*\}|P\{[^}]*\}|u\{[^}]*\}|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|.)|\[(?:\\.|[^\]\\])*\]/g

/**
 * Whether a pattern (JSON Schema: ECMA-262 with `u`) takes time in proportion to the text: at most one repetition
 * without a bound, after `^`, none in or of a group, and neither look-around nor references back. Other patterns could
 * take time without end (ReDoS), so neither Deputy nor a client runs them; the API still checks them.
 */
export const isSafePattern = (pattern: string): boolean => {
  if (pattern.length > MAX_PATTERN || /\\[1-9k]/.test(pattern) || /\(\?(?!:)/.test(pattern)) return false
  try {
    // eslint-disable-next-line no-new
    new RegExp(pattern, 'u')
  } catch {
    return false
  }
  const plain = pattern.replace(ATOMS, 'x').replaceAll('(?:', '(')
  // A repeated group is run again for each way to divide the text, unless it may be left out only.
  if (/\)(?:[*+]|\{)/.test(plain)) return false
  let unbounded = 0
  for (const [repeat, , to] of plain.matchAll(/[*+]|\{(\d+)(?:,(\d*))?\}/g)) {
    const isFixed = /^\{\d+\}$/.test(repeat)
    const most = isFixed ? Number(repeat.slice(1, -1)) : Number(to === undefined || to === '' ? Infinity : to)
    if (isFixed ? most > 10 * MAX_REPEAT : most > MAX_REPEAT) unbounded += 1
  }
  if (unbounded > 1 || (unbounded === 1 && !plain.startsWith('^'))) return false
  // Several bounded repetitions multiply.
  const bounded = [...plain.matchAll(/\{\d+,\d+\}/g)].length
  return bounded + unbounded <= 3 && (unbounded === 0 || !plain.includes('|'))
}
