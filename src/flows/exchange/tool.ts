import { type Downstream, OTHER_TOOLS, type Server } from '#config'
import { refuse } from '#errors'
import { ownValue } from '#foundation/text'
import type { VerifiedSubject } from '#identity/subject'

export type Tool = Server['tools'][string]

/**
 * What the server's file says of a tool that a request names. A file that lists no tool says nothing of any.
 * @throws DeputyError `tool_unknown`: a name that is misspelt narrows nothing, so it gets nothing
 */
export const toolOf = ({ server, tools }: Server, tool: string | undefined): Tool | undefined => {
  if (tool === undefined || Object.keys(tools).length === 0) return undefined
  const found = ownValue(tools, tool) ?? ownValue(tools, OTHER_TOOLS)
  if (found === undefined) throw refuse('tool_unknown', { tool, server })
  return found
}

/** @throws DeputyError `tool_other_target`, `tool_unknown` */
export const assertToolUses = (server: Server, tool: string | undefined, { downstream }: Downstream): void => {
  const found = toolOf(server, tool)
  if (found?.downstream === undefined || found.downstream === downstream) return
  throw refuse('tool_other_target', { tool: tool!, server: server.server, downstream, needed: found.downstream })
}

/** The scopes that a tool requires of the user's own token and that this one lacks; a login session has none. */
export const missingFor = (
  { requires }: Pick<Tool, 'requires'>,
  subject: Pick<VerifiedSubject, 'scopes'> | undefined,
): string[] => requires.filter((scope) => subject?.scopes?.includes(scope) !== true)

/** @throws DeputyError `insufficient_scope`, `tool_unknown` */
export const assertToolScopes = (
  server: Server,
  tool: string | undefined,
  subject: Pick<VerifiedSubject, 'scopes'> | undefined,
): void => {
  const found = toolOf(server, tool)
  const missing = found === undefined ? [] : missingFor(found, subject)
  if (missing.length > 0)
    throw refuse('insufficient_scope', { tool: tool!, server: server.server, scopes: missing.join(' ') })
}
