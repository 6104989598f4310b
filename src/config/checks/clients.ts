import { servesTenant } from '../values.ts'
import type { Loaded } from '../loaded.ts'
import type { Problem } from '../problem.ts'
import { correction, problemsOf, unknownTenants } from './names.ts'

/** What the files of MCP clients name outside of themselves: tenants, and servers at which users sign in through Deputy. */
export const checkClients = ({ clients, tenants, servers }: Loaded): Problem[] =>
  [...clients.values()].flatMap((located) => {
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
    return [...unknownTenants(located, value.tenants, tenants), ...unknown]
  })
