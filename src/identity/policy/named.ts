/** What access policies name, held against what exists: Cedar takes any name, so a slip in a `forbid` forbids nothing. */
import type { PolicyJson } from '@cedar-policy/cedar-wasm/nodejs'
import type { Snapshot } from '#config'
import { knownBy } from '#identity/client'
import { didYouMean } from '#foundation/text'

/** The names that policies may use; those of other environments are among them. */
export interface ExistingNames {
  readonly tenants: ReadonlySet<string>
  readonly servers: ReadonlySet<string>
  readonly downstreams: ReadonlySet<string>
  readonly teams: ReadonlySet<string>
  /** Clients of files, agents among them. */
  readonly clients: ReadonlySet<string>
  /** As policies write them: `TENANT/ID`. */
  readonly agents: ReadonlySet<string>
}

/** @param elsewhere ids of servers and downstreams that daemons of other environments see */
export const existingNames = (
  { tenants, servers, downstreams, clients }: Pick<Snapshot, 'tenants' | 'servers' | 'downstreams' | 'clients'>,
  elsewhere: ReadonlySet<string>,
): ExistingNames => ({
  tenants: new Set(tenants.keys()),
  servers: new Set([...servers.keys(), ...elsewhere]),
  downstreams: new Set([...downstreams.keys(), ...elsewhere]),
  teams: new Set([...servers.values()].flatMap(({ team }) => team ?? [])),
  clients: new Set(clients.keys()),
  agents: new Set(
    [...clients.values()].flatMap(({ client, agent }) => (agent === undefined ? [] : `${agent.tenant}/${client}`)),
  ),
})

interface EntityName {
  readonly type: string
  readonly id: string
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null

/** Every entity that a policy names (https://docs.cedarpolicy.com/policies/json-format.html). */
const entitiesIn = (node: unknown): EntityName[] => {
  if (Array.isArray(node)) return node.flatMap(entitiesIn)
  if (!isRecord(node)) return []
  const { type, id } = node
  const own = typeof type === 'string' && typeof id === 'string' ? [{ type, id }] : []
  return [...own, ...Object.values(node).flatMap(entitiesIn)]
}

/** Stands for the type of an id that policies compare as text. */
const CLIENT_ID = 'context.client.id'

/** Whether an expression is `context.client.id`. */
const isClientId = (node: unknown): boolean => {
  const attributes: unknown[] = []
  let at = node
  while (isRecord(at) && isRecord(at['.'])) {
    attributes.unshift(at['.']['attr'])
    at = at['.']['left']
  }
  return isRecord(at) && at['Var'] === 'context' && attributes.join('.') === 'client.id'
}

/** Texts in an expression. */
const textsIn = (node: unknown): string[] => {
  if (!isRecord(node)) return []
  if (typeof node['Value'] === 'string') return [node['Value']]
  return Array.isArray(node['Set']) ? node['Set'].flatMap(textsIn) : []
}

/**
 * The ids of clients of files to which a policy compares `context.client.id`. Ids of the other kinds of client are in
 * no file.
 */
const clientsIn = (node: unknown): EntityName[] => {
  if (Array.isArray(node)) return node.flatMap(clientsIn)
  if (!isRecord(node)) return []
  const own = ['==', '!=', 'contains'].flatMap((operator) => {
    const sides = node[operator]
    if (!isRecord(sides)) return []
    const { left, right } = sides
    if (!isClientId(left) && !isClientId(right)) return []
    return [...textsIn(left), ...textsIn(right)].filter((id) => knownBy(id) === 'file')
  })
  return [...own.map((id) => ({ type: CLIENT_ID, id })), ...Object.values(node).flatMap(clientsIn)]
}

/** A name that does not exist. */
export interface UnknownName {
  /** As it stands in the policy. */
  readonly text: string
  readonly message: string
  readonly fix: string
}

const judge = ({ type, id }: EntityName, existing: ExistingNames): Omit<UnknownName, 'text'> | undefined => {
  const against = (what: string, names: ReadonlySet<string>, name = id): Omit<UnknownName, 'text'> | undefined =>
    names.has(name)
      ? undefined
      : {
          message: `There is no ${what} ${name}, so this part of the policy never applies.`,
          fix: didYouMean(name, names) || `Known: ${[...names].sort().join(', ') || 'none yet'}.`,
        }
  switch (type) {
    case 'Deputy::Downstream':
      return against('downstream', existing.downstreams)
    case 'Deputy::Workload':
      return against('server', existing.servers)
    case 'Deputy::Tenant':
      return against('tenant', existing.tenants)
    case 'Deputy::Agent':
      return against('agent', existing.agents)
    case CLIENT_ID:
      return against('client', existing.clients)
    case 'Deputy::Team':
      return against('team of a server', existing.teams)
    case 'Deputy::Group':
    case 'Deputy::User': {
      const [tenant, ...rest] = id.split('/')
      const what = type === 'Deputy::Group' ? 'group' : 'user'
      if (rest.length === 0)
        return {
          message: `The ${what} ${id} has no tenant before it, so no ${what} has this name.`,
          fix: `Write ${type}::"TENANT/${id}".`,
        }
      if (type === 'Deputy::Group' && rest[0] === '' && existing.tenants.has(tenant ?? ''))
        return {
          message: `No group begins with a slash, so no group has the name ${id}.`,
          fix: `Write Deputy::Group::"${tenant}/${rest.slice(1).join('/')}": a path in a token, such as /sales, is the group sales.`,
        }
      return against(`tenant of the ${what} ${id},`, existing.tenants, tenant)
    }
    default:
      return undefined
  }
}

/** The names in a policy that do not exist, each once. */
export const unknownNames = (policy: PolicyJson, existing: ExistingNames): UnknownName[] => {
  const { principal, action: _, resource, conditions } = policy
  const seen = new Map<string, UnknownName>()
  for (const entity of [...entitiesIn([principal, resource, conditions]), ...clientsIn(conditions)]) {
    const wrong = judge(entity, existing)
    const id = JSON.stringify(entity.id)
    const text = entity.type === CLIENT_ID ? id : `${entity.type}::${id}`
    if (wrong !== undefined) seen.set(text, { text, ...wrong })
  }
  return [...seen.values()]
}

/** Whether a policy forbids everything to everybody. */
export const forbidsAll = ({ effect, principal, action, resource, conditions }: PolicyJson): boolean =>
  effect === 'forbid' &&
  [principal, action, resource].every(({ op }) => op === 'All') &&
  conditions.every(({ body }) => isRecord(body) && 'Value' in body && body['Value'] === true)
