import { createHash } from 'node:crypto'
import { z } from 'zod'
import { resourceSchema } from '../config/values.ts'
import { refuse } from '../errors.ts'

/**
 * The parts of the official MCP registry's `server.json` that Deputy takes over; what else is in it is passed by.
 * @see https://github.com/modelcontextprotocol/registry/blob/main/docs/reference/server-json/generic-server-json.md
 */
const serverJsonSchema = z.looseObject({
  name: z.string().min(3).max(200).regex(/^[a-zA-Z0-9.-]+\/[a-zA-Z0-9._-]+$/, 'a name is a reverse-DNS name, a slash and the server\'s own name'),
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

const LONGEST_ID = 63

/** Names such as `io.github.user/weather` become ids such as `io.github.user.weather`; of a long one a digest keeps it apart from others. */
const toId = (name: string): string => {
  const id = name.toLowerCase().replaceAll('/', '.').replace(/^[^a-z0-9]+/, '') || 'server'
  if (id.length <= LONGEST_ID) return id
  return `${id.slice(0, LONGEST_ID - 9)}-${createHash('sha256').update(name).digest('hex').slice(0, 8)}`
}

/** A URL that stands for one server; a template with variables does not. */
const isResource = (url: string): boolean => resourceSchema.safeParse(url).success && /^https?:/i.test(url) && !url.includes('{')

/**
 * A draft of a server's file out of a `server.json`. It is `proposed`: importing approves nothing.
 * @throws DeputyError `malformed_request`
 */
export const importServerJson = (json: unknown, given: { owner: string; tenants: readonly string[] }): ServerDraft => {
  const parsed = serverJsonSchema.safeParse(json)
  if (!parsed.success) throw refuse('malformed_request', { problem: `this is no server.json: ${parsed.error.issues[0]?.path.join('.')}: ${parsed.error.issues[0]?.message}` })
  const { name, title, description, version, remotes, packages } = parsed.data
  const urls = [...remotes.map(({ url }) => url), ...packages.flatMap(({ transport }) => transport?.url ?? [])]
  return {
    server: toId(name), name: title ?? name, owner: given.owner, tenants: given.tenants, status: 'proposed',
    // A stdio server has no URL: a name that no other server has stands for it.
    resource: urls.find(isResource) ?? `urn:mcp:${toId(name)}`,
    ...(description === undefined ? {} : { description }), ...(version === undefined ? {} : { version }),
  }
}
