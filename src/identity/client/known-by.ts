import { type Client, REGISTERED_PREFIX, servesTenant, type Snapshot } from '#config'

/** How Deputy knows a client: by a file of the administrator's, by the document at its address, or by what it said of itself. */
export type KnownBy = 'file' | 'document' | 'registered'

/** The form of a client's id says how it is known: no file has an id of the other two forms. */
export const knownBy = (id: string): KnownBy => {
  if (/^https:\/\//i.test(id)) return 'document'
  return id.startsWith(REGISTERED_PREFIX) ? 'registered' : 'file'
}

/** The file of a client, where it is one of a file that is enabled. */
export const fileOfClient = (id: string, { clients }: Pick<Snapshot, 'clients'>): Client | undefined => {
  const file = knownBy(id) === 'file' ? clients.get(id) : undefined
  return file?.enabled === true ? file : undefined
}

/**
 * Whether the files let a client be used for users of a tenant, and for a server where one is given. Only the file of a client says
 * something of it: clients of other kinds may be used wherever users consent.
 */
export const isClientAllowed = (
  id: string,
  { tenant, server }: { readonly tenant: string; readonly server?: string },
  snapshot: Pick<Snapshot, 'clients'>,
): boolean => {
  if (knownBy(id) !== 'file') return true
  const file = fileOfClient(id, snapshot)
  return (
    file !== undefined &&
    servesTenant(file.tenants, tenant) &&
    (server === undefined || file.servers === '*' || file.servers.includes(server))
  )
}
