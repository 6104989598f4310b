import { z } from 'zod'

const wrappedKeySchema = z.strictObject({
  key: z.string().regex(/^[0-9a-f]{16}$/),
  kek: z.string(),
  wrapped: z.base64(),
})
/** The key that seals, and those before it that still open. */
const keyFileSchema = wrappedKeySchema.extend({ earlier: z.array(wrappedKeySchema).optional() })
/** A data key as its file has it: wrapped by the key-encryption key that it names. */
export type WrappedKey = z.output<typeof wrappedKeySchema>

/** The keys in the file of a tenant, the one that seals first. @throws Error for another text */
export const parseKeyFile = (text: string): readonly [WrappedKey, ...WrappedKey[]] => {
  const { earlier = [], ...first } = keyFileSchema.parse(JSON.parse(text))
  return [first, ...earlier]
}

/** The text of a file. @param keys the one that seals first */
export const keyFileText = ([first, ...earlier]: readonly [WrappedKey, ...WrappedKey[]]): string =>
  `${JSON.stringify({ ...first, ...(earlier.length === 0 ? {} : { earlier }) })}\n`

/**
 * The file as it is now, with the keys that it had before and has no more: between the two, records may have been sealed under
 * either.
 */
export const mergeKeyFiles = (before: string | undefined, now: string): string => {
  const [first, ...earlier] = parseKeyFile(now)
  const known = new Set([first, ...earlier].map(({ key }) => key))
  const gone = before === undefined ? [] : parseKeyFile(before).filter(({ key }) => !known.has(key))
  return keyFileText([first, ...earlier, ...gone])
}
