import type { Downstream, Server } from '#config'
import { refuse } from '#errors'
import { assertToolUses, toolOf } from './tool.ts'

/** One downstream of a request, and the scopes that the server is registered for there. */
export interface Registered {
  readonly downstream: Downstream
  readonly registered: ReadonlySet<string>
}

/**
 * The scopes that may be asked of policy: those asked for that the server is registered for, or all that it is
 * registered for when none were asked; for a tool, no more than the tool needs. Sorted, without doubles.
 * @throws DeputyError `scope_not_available` when scopes were asked and none is left, `tool_unknown`,
 * `tool_other_target`
 */
export const scopesWithin = (
  asked: readonly string[] | undefined,
  target: Registered,
  server: Server,
  tool: string | undefined,
): string[] => {
  assertToolUses(server, tool, target.downstream)
  const needed = toolOf(server, tool)
  const ofTool = needed === undefined ? undefined : new Set(needed.scopes)
  const wanted = asked ?? (ofTool === undefined ? [...target.registered] : [...ofTool])
  const within = [...new Set(wanted)]
    .filter((scope) => target.registered.has(scope) && (ofTool?.has(scope) ?? true))
    .sort()
  if (within.length === 0 && wanted.length > 0) {
    throw refuse('scope_not_available', {
      scopes: wanted.join(' '),
      server: server.server,
      downstream: target.downstream.downstream,
    })
  }
  return within
}
