/**
 * What a record holds under a name that a caller, a token or a file has chosen. A plain object also answers to the names
 * of its prototype (`constructor`, `__proto__`); they are no entries.
 */
export const ownValue = <Value>(record: Readonly<Record<string, Value>>, name: string): Value | undefined =>
  Object.hasOwn(record, name) ? record[name] : undefined
