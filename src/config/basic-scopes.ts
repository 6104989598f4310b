import type { Problem } from './problem.ts'
import type { Snapshot } from './snapshot.ts'

/**
 * Servers that name no scope for a first sign-in, although one of their tools requires some. The 401 has no `scope` then,
 * and clients such as the official one for Python ask for all that the identity provider's metadata lists: a user who may
 * not have one of them cannot sign in at all.
 * @see https://modelcontextprotocol.io/specification/2026-07-28/basic/authorization (scope selection strategy)
 */
export const basicScopeWarnings = ({ servers }: Pick<Snapshot, 'servers'>): Problem[] =>
  [...servers.values()].flatMap(({ server, status, basic_scopes: basic, tools }) => {
    const required = [...new Set(Object.values(tools).flatMap(({ requires }) => requires))]
    if (status === 'retired' || basic.length > 0 || required.length === 0) return []
    return [
      {
        file: 'servers',
        line: 1,
        message: `${server} has no \`basic_scopes\`, so that some MCP clients ask at first for every scope of the identity provider, ${required.join(' ')} included.`,
        fix: 'Name one that every user may have: basic_scopes: [mcp].',
      },
    ]
  })
