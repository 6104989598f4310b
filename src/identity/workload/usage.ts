import { z } from 'zod'
import { OTHER_TOOLS, type Server } from '#config'
import { recordPages } from '#foundation/audit'
import type { AuditStore } from '#foundation/store'
import { ownValue } from '#foundation/text'

/** Who had a tool called, through which server. */
export interface ToolUser {
  readonly tenant: string | null
  readonly user: string | null
  readonly calls: number
  readonly lastAt: number
}

/** What became of a tool in a stretch of time. Times are ms since the epoch. */
export interface ToolUsage {
  readonly server: string
  /** Null: requests that named no tool. */
  readonly tool: string | null
  readonly owner: string | null
  /** `unused`: registered, and not called. `unregistered`: called, and in no file. `deprecated`: it, or its server, is on its way out. */
  readonly state: 'used' | 'unused' | 'unregistered' | 'deprecated'
  readonly calls: number
  readonly lastAt: number | null
  readonly users: readonly ToolUser[]
}

const PAGE = 5000
const askedSchema = z.looseObject({
  detail: z.looseObject({ asked: z.looseObject({ tool: z.string().optional() }).optional() }),
})

interface Count {
  calls: number
  lastAt: number
  readonly users: Map<string, { tenant: string | null; user: string | null; calls: number; lastAt: number }>
}

/** Every credential that was issued since a moment, counted by the server and the tool that it was asked for. */
const countCalls = async (
  audit: Pick<AuditStore, 'query' | 'chains'>,
  since: number,
): Promise<Map<string, Map<string | null, Count>>> => {
  const counts = new Map<string, Map<string | null, Count>>()
  for (const node of await audit.chains()) {
    for await (const rows of recordPages(audit, { node, outcome: 'issued', since }, PAGE)) {
      for (const { server, tenant, user, at, body } of rows) {
        if (server === null) continue
        const tool = askedSchema.safeParse(JSON.parse(body)).data?.detail.asked?.tool ?? null
        const ofServer = counts.get(server) ?? new Map<string | null, Count>()
        counts.set(server, ofServer)
        const count = ofServer.get(tool) ?? { calls: 0, lastAt: at, users: new Map() }
        ofServer.set(tool, count)
        const who = JSON.stringify([tenant, user])
        const caller = count.users.get(who) ?? { tenant, user, calls: 0, lastAt: at }
        count.users.set(who, caller)
        for (const each of [count, caller]) {
          each.calls += 1
          each.lastAt = Math.max(each.lastAt, at)
        }
      }
    }
  }
  return counts
}

const namedTools = (server: Server | undefined): string[] =>
  Object.keys(server?.tools ?? {}).filter((tool) => tool !== OTHER_TOOLS)

const stateOf = (server: Server | undefined, tool: string | null, calls: number): ToolUsage['state'] => {
  if (calls === 0) return 'unused'
  const registered = server === undefined || tool === null ? undefined : ownValue(server.tools, tool)
  if (server?.status === 'deprecated' || registered?.deprecated === true) return 'deprecated'
  return server === undefined || (tool !== null && registered === undefined) ? 'unregistered' : 'used'
}

/**
 * Which tools were called since a moment, and by whom, and which were not: read off the audit log, where every credential
 * was recorded before it left.
 */
export const readUsage = async (options: {
  audit: Pick<AuditStore, 'query' | 'chains'>
  servers: ReadonlyMap<string, Server>
  since: number
}): Promise<ToolUsage[]> => {
  const counts = await countCalls(options.audit, options.since)
  const names = [...new Set([...options.servers.keys(), ...counts.keys()])].sort()
  return names.flatMap((name) => {
    const server = options.servers.get(name)
    const called = counts.get(name) ?? new Map<string | null, Count>()
    const tools = [...new Set<string | null>([...namedTools(server), ...called.keys()])]
    return tools.map((tool): ToolUsage => {
      const { calls = 0, lastAt = null, users = new Map() } = called.get(tool) ?? {}
      return {
        server: name,
        tool,
        owner: server?.owner ?? null,
        state: stateOf(server, tool, calls),
        calls,
        lastAt,
        users: [...users.values()].sort((a, b) => b.calls - a.calls),
      }
    })
  })
}
