import type { SecretStore } from './records/secrets.ts'

/**
 * The secrets of a store that this process alone writes, with a count of the writes: it goes up before each of them
 * and after, also after one that fails. What was read between two equal counts is still what is there.
 */
export const countWrites = (secrets: SecretStore): SecretStore => {
  let count = 0
  const counted = async <T>(write: () => Promise<T>): Promise<T> => {
    count += 1
    try {
      return await write()
    } finally {
      count += 1
    }
  }
  return {
    find: (...which) => secrets.find(...which),
    list: (tenant) => secrets.list(tenant),
    nextVersion: (tenant, name) => secrets.nextVersion(tenant, name),
    putCurrent: (secret) => counted(() => secrets.putCurrent(secret)),
    putPending: (secret) => counted(() => secrets.putPending(secret)),
    promote: (...which) => counted(() => secrets.promote(...which)),
    removeVersion: (...which) => counted(() => secrets.removeVersion(...which)),
    remove: (filter) => counted(() => secrets.remove(filter)),
    writes: () => count,
  }
}
