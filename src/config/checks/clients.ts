import { servesTenant } from '../values.ts'
import type { Client } from '../client.ts'
import type { Loaded } from '../loaded.ts'
import type { Problem } from '../problem.ts'
import type { Located } from '../yaml-file.ts'
import { correction, problemsOf, unknownTenants } from './names.ts'

/** What an agent's file names: its tenant, and servers that serve it. */
const checkAgent = (located: Located<Client>, { tenants, servers }: Loaded): Problem[] => {
  const { agent } = located.value
  if (agent === undefined) return []
  const problem = problemsOf(located)
  const ofTenant = tenants.has(agent.tenant)
    ? []
    : [
        problem(
          ['agent', 'tenant'],
          `There is no tenant ${agent.tenant}.`,
          correction(agent.tenant, 'Known tenants', tenants.keys()),
        ),
      ]
  const ofServers = Object.keys(agent.servers).flatMap((id) => {
    const server = servers.get(id)?.value
    if (server === undefined)
      return problem(
        ['agent', 'servers', id],
        `There is no server ${id}.`,
        correction(id, 'Known servers', servers.keys()),
      )
    return servesTenant(server.tenants, agent.tenant)
      ? []
      : problem(
          ['agent', 'servers', id],
          `${id} does not serve the tenant ${agent.tenant}.`,
          `Add it to \`tenants\` of ${id}.`,
        )
  })
  return [...ofTenant, ...ofServers]
}

/** What the files of MCP clients name outside of themselves: tenants, and servers at which users sign in through Deputy. */
export const checkClients = (loaded: Loaded): Problem[] =>
  [...loaded.clients.values()].flatMap((located) => {
    const { tenants, servers } = loaded
    const { value } = located
    const problem = problemsOf(located)
    const named = value.servers === '*' ? [] : value.servers
    const unknown = named.flatMap((id, at) => {
      const server = servers.get(id)?.value
      if (server === undefined)
        return problem(['servers', at], `There is no server ${id}.`, correction(id, 'Known servers', servers.keys()))
      if (server.sign_in !== 'deputy')
        return problem(
          ['servers', at],
          `Users do not sign in at Deputy for ${id}, so no client gets a token for it here.`,
          `Write sign_in: deputy in the file of ${id}, or leave it out.`,
        )
      const isServed = value.tenants === '*' || value.tenants.some((tenant) => servesTenant(server.tenants, tenant))
      return isServed
        ? []
        : problem(
            ['servers', at],
            `${id} serves none of this client's tenants.`,
            `Add one of them to \`tenants\` of ${id}.`,
          )
    })
    return [...unknownTenants(located, value.tenants, tenants), ...unknown, ...checkAgent(located, loaded)]
  })
