import { ownValue } from '#foundation/text'
import type { ApiTool } from '#openapi'
import type { Api, CompiledApi } from './api.ts'
import type { Server } from './server.ts'

/** A tool of an API as a server has it: `tool.name` begins with the server's prefix. */
export interface HostedTool {
  readonly api: Api
  readonly tool: ApiTool
}
/** By name. */
export type HostedTools = ReadonlyMap<string, HostedTool>

/** Whether Deputy itself is this MCP server. */
export const isHosted = ({ apis }: Pick<Server, 'apis'>): boolean => apis.length > 0

/** A tool of one of a server's APIs, with the name that the server has for it. */
export interface NamedTool extends Pick<CompiledApi, 'api'> {
  readonly name: string
  /** Where in `apis` of the server. */
  readonly at: number
  readonly tool: ApiTool
}

/** The tools of a server's APIs. Names can come twice, and be too long, where the files are not checked yet. */
export const namedTools = ({ apis }: Server, known: ReadonlyMap<string, CompiledApi>): NamedTool[] =>
  apis.flatMap(({ api, prefix }, at) => {
    const compiled = known.get(api)
    return compiled === undefined
      ? []
      : compiled.tools.map((tool) => ({ api: compiled.api, name: `${prefix}${tool.name}`, at, tool }))
  })

const toolsOf = (server: Server, known: ReadonlyMap<string, CompiledApi>): HostedTools =>
  new Map(
    namedTools(server, known).map(({ name, api, tool }) => [
      name,
      { api, tool: name === tool.name ? tool : { ...tool, name } },
    ]),
  )

/**
 * The server with its hosted tools among those of its file, so that the exchange knows the downstream and the scopes of
 * each.
 */
const withTools = (server: Server, hosted: HostedTools): Server => ({
  ...server,
  tools: Object.fromEntries(
    [...hosted].map(([name, { api, tool }]) => {
      const own = ownValue(server.tools, name)
      return [
        name,
        {
          downstream: api.downstream,
          scopes: own === undefined || own.scopes.length === 0 ? [...tool.scopes] : own.scopes,
          requires: own?.requires ?? [],
          deprecated: own?.deprecated ?? tool.isDeprecated,
        },
      ]
    }),
  ),
})

/** The servers, and the tools that Deputy serves for those that name APIs. */
export const hostTools = (
  servers: ReadonlyMap<string, Server>,
  apis: ReadonlyMap<string, CompiledApi>,
): { readonly servers: ReadonlyMap<string, Server>; readonly hosted: ReadonlyMap<string, HostedTools> } => {
  const hosted = new Map([...servers.values()].filter(isHosted).map((server) => [server.server, toolsOf(server, apis)]))
  return {
    hosted,
    servers: new Map(
      [...servers].map(([id, server]) => {
        const tools = hosted.get(id)
        return [id, tools === undefined ? server : withTools(server, tools)]
      }),
    ),
  }
}
