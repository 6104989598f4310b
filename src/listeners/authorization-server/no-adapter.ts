import type { Adapter } from 'oidc-provider'

const nothing = (): Promise<undefined> => Promise.resolve(undefined)

/** An adapter that finds and keeps nothing: what Deputy does for a kind of record stands in its place. */
export const noAdapter: Adapter = {
  upsert: nothing,
  find: nothing,
  findByUserCode: nothing,
  findByUid: nothing,
  consume: nothing,
  destroy: nothing,
  revokeByGrantId: nothing,
}
