import { didYouMean } from '#foundation/text'
import type { Problem } from './problem.ts'
import type { Server } from './server.ts'
import type { Snapshot } from './snapshot.ts'

/** Scopes that a client or an agent may have at a server: those that its tools and its use as such need. */
export const scopesAt = ({ basic_scopes: basic, tools }: Pick<Server, 'basic_scopes' | 'tools'>): string[] => [
  ...new Set([...basic, ...Object.values(tools).flatMap(({ requires }) => requires)]),
]

/**
 * Scopes of agents that no tool of the server asks for. That is a warning: a server may ask for them in its own code,
 * whose tools no file names.
 */
export const agentScopeWarnings = ({ clients, servers }: Pick<Snapshot, 'clients' | 'servers'>): Problem[] =>
  [...clients.values()].flatMap(({ client, agent }) =>
    Object.entries(agent?.servers ?? {}).flatMap(([id, { scopes }]) => {
      const server = servers.get(id)
      const known = server === undefined ? [] : scopesAt(server)
      if (known.length === 0) return []
      return scopes
        .filter((scope) => !known.includes(scope))
        .map((scope) => ({
          file: `clients/${client}.yaml`,
          line: 1,
          message: `The agent ${client} has the scope ${scope} at ${id}, and no tool of ${id} requires it.`,
          fix: didYouMean(scope, known) || `Known: ${known.toSorted().join(', ')}.`,
        }))
    }),
  )
