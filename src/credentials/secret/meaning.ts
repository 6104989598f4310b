import type { Secret } from '#foundation/crypto'

/** JSON objects and arrays with their members in one order; undefined for all other text. */
const parsed = (text: string): unknown => {
  if (!/^\s*[{[]/.test(text)) return undefined
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? value : undefined
  } catch {
    return undefined
  }
}

const ordered = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(ordered)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([name, member]) => [name, ordered(member)]),
  )
}

const meaningOf = (secret: Secret): string => {
  const text = secret.reveal()
  const value = parsed(text)
  return value === undefined ? text.trim() : JSON.stringify(ordered(value))
}

const passwordOf = (secret: Secret): string | undefined => {
  const value = parsed(secret.reveal())
  return value !== undefined && 'password' in (value as object)
    ? String((value as { password: unknown }).password)
    : undefined
}

/** Whether two secrets say the same: white space around and within JSON, and the order of its members, say nothing. */
export const isSameSecret = (one: Secret, other: Secret): boolean => meaningOf(one) === meaningOf(other)

/** Whether a secret has nothing of another: it says something else, and where both are logins the password is another one. */
export const isFresh = (next: Secret, known: Secret): boolean => {
  const [password, before] = [passwordOf(next), passwordOf(known)]
  return !isSameSecret(next, known) && (password === undefined || password !== before)
}
