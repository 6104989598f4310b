import { type Agent, type Client, isNamedHost, REGISTERED_PREFIX, servesTenant, type Snapshot } from '#config'

/** How Deputy knows a client: by a file of the administrator's, by the document at its address, or by what it said of itself. */
export type KnownBy = 'file' | 'document' | 'registered'

/** The form of a client's id says how it is known: no file has an id of the other two forms. */
export const knownBy = (id: string): KnownBy => {
  if (/^https:\/\//i.test(id)) return 'document'
  return id.startsWith(REGISTERED_PREFIX) ? 'registered' : 'file'
}

/** Whether the administrator has named the client, or the host of its document: anyone can make one of the others. */
export const isVouchedFor = (id: string, { settings }: Pick<Snapshot, 'settings'>): boolean => {
  const known = knownBy(id)
  if (known !== 'document') return known === 'file'
  const { hosts } = settings.clients.metadata_documents
  return hosts !== '*' && isNamedHost(new URL(id).host, hosts)
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
    // No user signs in at an agent.
    file.agent === undefined &&
    servesTenant(file.tenants, tenant) &&
    (server === undefined || file.servers === '*' || file.servers.includes(server))
  )
}

/** An agent: a client of a file that acts for itself. */
export interface AgentClient {
  readonly file: Client
  readonly agent: Agent
}

/** The agent of a tenant, where its file is enabled. */
export const agentOf = (id: string, tenant: string, snapshot: Pick<Snapshot, 'clients'>): AgentClient | undefined => {
  const file = fileOfClient(id, snapshot)
  return file?.agent?.tenant === tenant ? { file, agent: file.agent } : undefined
}

/** All agents of enabled tenants. */
export const agentsIn = ({ clients, tenants }: Pick<Snapshot, 'clients' | 'tenants'>): AgentClient[] =>
  [...clients.values()].flatMap((file) =>
    file.enabled && file.agent !== undefined && tenants.get(file.agent.tenant)?.enabled === true
      ? [{ file, agent: file.agent }]
      : [],
  )
