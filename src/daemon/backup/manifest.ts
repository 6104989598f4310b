import { z } from 'zod'

/** `installation`: everything but the tenants' data keys. `data-keys`: the keys. */
export type Kind = 'installation' | 'data-keys'

/** What a backup says of itself, before its files. */
export const manifestSchema = z.looseObject({
  /** Names this run; both files of one run have it. */
  id: z.string(),
  /** The version of Deputy that has written it. */
  version: z.string(),
  /** When the store was read (ms since the epoch). */
  at: z.int().min(0),
  /** The schema of the store. */
  schema: z.int().min(0),
  /** The keys of Deputy itself, and the key-encryption keys that wrap them, by their ids. */
  own_keys: z.array(z.strictObject({ key: z.string(), kek: z.string() })),
  /** Tenants that have a data key. */
  tenants: z.array(z.string()),
})
export type Manifest = z.output<typeof manifestSchema>
