import { z } from 'zod'
import { refuse } from '../errors.ts'

/**
 * The parts of the official MCP registry's `server.json` that Deputy takes over.
 * @see https://github.com/modelcontextprotocol/registry/blob/main/docs/reference/server-json/generic-server-json.md
 */
const serverJsonSchema = z.looseObject({
  name: z.string().min(3).max(200),
  description: z.string().optional(),
  title: z.string().optional(),
  version: z.string().optional(),
  remotes: z.array(z.looseObject({ type: z.string(), url: z.string() })).default([]),
  packages: z.array(z.looseObject({ identifier: z.string().optional(), transport: z.looseObject({ type: z.string(), url: z.string().optional() }).optional() })).default([]),
})

/** What a registered server's file begins with; whoever imports it fills in tenants, attestation and downstreams. */
export interface ServerDraft {
  readonly server: string
  readonly name: string
  readonly description?: string
  readonly version?: string
  readonly resource: string
  readonly tenants: readonly string[]
  readonly owner: string
  readonly status: 'proposed'
}

/** Reverse-DNS names such as `io.github.user/weather` become ids such as `io.github.user.weather`. */
const toId = (name: string): string => name.toLowerCase().replace(/[^a-z0-9._-]+/g, '.').replace(/^[^a-z0-9]+/, '').slice(0, 63)

/**
 * A draft of a server's file out of a `server.json`. It is `proposed`: importing approves nothing.
 * @throws DeputyError `malformed_request`
 */
export const importServerJson = (json: unknown, given: { owner: string; tenants: readonly string[] }): ServerDraft => {
  const parsed = serverJsonSchema.safeParse(json)
  if (!parsed.success) throw refuse('malformed_request', { problem: `this is no server.json: ${parsed.error.issues[0]?.path.join('.')}: ${parsed.error.issues[0]?.message}` })
  const { name, title, description, version, remotes, packages } = parsed.data
  const url = remotes[0]?.url ?? packages.map(({ transport }) => transport?.url).find((each) => each !== undefined)
  const isUsable = url !== undefined && URL.canParse(url) && !url.includes('{')
  return {
    server: toId(name), name: title ?? name, owner: given.owner, tenants: given.tenants, status: 'proposed',
    // A stdio server has no URL: a name that no other server has stands for it.
    resource: isUsable ? url : `urn:mcp:${toId(name)}`,
    ...(description === undefined ? {} : { description }), ...(version === undefined ? {} : { version }),
  }
}
