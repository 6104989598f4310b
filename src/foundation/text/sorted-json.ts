/** Objects with their members in one order. */
const sorted = (_key: string, value: unknown): unknown =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
    : value

/** JSON that is the same for values that say the same, whatever the order of their members. */
export const sortedJson = (value: unknown): string => JSON.stringify(value, sorted)
