import { LRUCache } from 'lru-cache'

/** What belongs to one key of an LRU. */
type Options<Key extends {}, Value extends {}> = Omit<
  LRUCache.OptionsBase<Key, Value, unknown>,
  'max' | 'maxSize' | 'maxEntrySize' | 'sizeCalculation'
>

/**
 * A map of at most `max` entries, or of entries that weigh at most `max` together, of which the least recently used
 * leaves first. Its room grows with what is in it: the `max` of `lru-cache` takes the room of all entries when the
 * cache is made, which costs 10 ms and 2 MB for 100,000, at each start of a daemon and for each backend.
 */
export const createLru = <Key extends {}, Value extends {}>({
  max,
  weigh = () => 1,
  ...options
}: Options<Key, Value> & { readonly max: number; readonly weigh?: (value: Value) => number }): LRUCache<Key, Value> =>
  new LRUCache<Key, Value>({ ...options, maxSize: max, sizeCalculation: weigh })
