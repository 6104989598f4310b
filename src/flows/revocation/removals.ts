import type { Grant, GrantFilter, RevocationScope, Store } from '#foundation/store'
import { kindOf } from '#identity/validity'

type ConsentFilter = Omit<GrantFilter, 'provider' | 'id'>

/** The consents that a revocation covers. @param filters of the grants that it covers */
export const consentsWithin = async (
  store: Store,
  scope: RevocationScope,
  filters: readonly GrantFilter[],
  grants: readonly Grant[],
) => {
  if (kindOf(scope).consentsOf === 'its filters')
    return (await Promise.all(filters.map((filter) => store.consents.list(filter as ConsentFilter)))).flat()
  const found = await Promise.all(grants.map((grant) => store.consents.find(grant)))
  return found.filter((consent) => consent !== undefined)
}

/** @returns how many consents were removed */
export const removeConsents = async (
  store: Store,
  scope: RevocationScope,
  filters: readonly GrantFilter[],
  grants: readonly Grant[],
): Promise<number> => {
  const gone =
    kindOf(scope).consentsOf === 'its grants'
      ? grants.map(({ tenant, user, server, downstream }) => ({ tenant, user, server, downstream }))
      : (filters as readonly ConsentFilter[])
  let count = 0
  for (const filter of gone) count += await store.consents.remove(filter)
  return count
}

/** @param filter undefined: none */
export const listWhere = <Filter, Found>(
  records: { list(filter: Filter): Promise<Found[]> },
  filter: Filter | undefined,
): Promise<Found[]> => (filter === undefined ? Promise.resolve([]) : records.list(filter))

/** @param filter undefined: none. @returns how many records were removed */
export const removeWhere = <Filter>(
  records: { remove(filter: Filter): Promise<number> },
  filter: Filter | undefined,
): Promise<number> => (filter === undefined ? Promise.resolve(0) : records.remove(filter))
