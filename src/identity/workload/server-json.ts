import { createHash } from 'node:crypto'
import { z } from 'zod'
import { registryNameSchema, resourceSchema, type Server } from '#config'
import { refuse } from '#errors'

/**
 * The parts of the official MCP registry's `server.json` that Deputy takes over; what else is in it is passed by.
 * @see https://github.com/modelcontextprotocol/registry/blob/main/docs/reference/server-json/generic-server-json.md
 */
const serverJsonSchema = z.looseObject({
  name: registryNameSchema,
  description: z.string().optional(),
  title: z.string().optional(),
  version: z.string().optional(),
  remotes: z.array(z.looseObject({ type: z.string(), url: z.string() })).default([]),
  packages: z
    .array(
      z.looseObject({
        identifier: z.string().optional(),
        transport: z.looseObject({ type: z.string(), url: z.string().optional() }).optional(),
      }),
    )
    .default([]),
})

/** The beginning of a registered server's file; the admin who imports it fills in tenants, attestation and downstreams. */
export interface ServerDraft {
  readonly server: string
  readonly name: string
  readonly description?: string
  readonly version?: string
  readonly resource: string
  readonly tenants: readonly string[]
  readonly owner: string
  readonly status: 'proposed'
  readonly published: { readonly name: string; readonly packages?: readonly Readonly<Record<string, unknown>>[] }
}

const MAX_ID_LENGTH = 63

/** Names such as `io.github.user/weather` become ids such as `io.github.user.weather`; of a long one a digest keeps it apart from others. */
const toId = (name: string): string => {
  const id =
    name
      .toLowerCase()
      .replaceAll('/', '.')
      .replace(/^[^a-z0-9]+/, '') || 'server'
  if (id.length <= MAX_ID_LENGTH) return id
  return `${id.slice(0, MAX_ID_LENGTH - 9)}-${createHash('sha256').update(name).digest('hex').slice(0, 8)}`
}

/** A URL that stands for one server; a template with variables does not. */
const isResource = (url: string): boolean =>
  resourceSchema.safeParse(url).success && /^https?:/i.test(url) && !url.includes('{')

/**
 * A draft of a server's file out of a `server.json`. It is `proposed`: importing approves nothing.
 * @throws DeputyError `malformed_request`
 */
export const importServerJson = (json: unknown, given: { owner: string; tenants: readonly string[] }): ServerDraft => {
  const parsed = serverJsonSchema.safeParse(json)
  if (!parsed.success)
    throw refuse('malformed_request', {
      problem: `this is no server.json: ${parsed.error.issues[0]?.path.join('.')}: ${parsed.error.issues[0]?.message}`,
    })
  const { name, title, description, version, remotes, packages } = parsed.data
  const urls = [...remotes.map(({ url }) => url), ...packages.flatMap(({ transport }) => transport?.url ?? [])]
  return {
    server: toId(name),
    name: title ?? name,
    owner: given.owner,
    tenants: given.tenants,
    status: 'proposed',
    // A stdio server has no URL: a name that no other server has stands for it.
    resource: urls.find(isResource) ?? `urn:mcp:${toId(name)}`,
    ...(description === undefined ? {} : { description }),
    ...(version === undefined ? {} : { version }),
    published: { name, ...(packages.length === 0 ? {} : { packages }) },
  }
}

const SCHEMA = 'https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json'
/** The registry refuses longer descriptions. */
const MAX_DESCRIPTION_LENGTH = 100
/** Where a publisher may put what the format has no place for. */
const PUBLISHER = 'io.modelcontextprotocol.registry/publisher-provided'

/**
 * A registered server as a `server.json`. Its tenants, how it proves itself and what it may use stay here.
 * @param namespace reverse-DNS name for a server that was not listed before
 * @throws DeputyError `malformed_request` when it has no name there and none can be made
 */
export const exportServerJson = (server: Server, namespace: string | undefined): object => {
  const name = registryNameSchema.safeParse(server.published?.name ?? `${namespace ?? ''}/${server.server}`)
  if (!name.success)
    throw refuse('malformed_request', {
      problem: `${server.server} has no name in the registry: say --namespace com.example`,
    })
  const {
    title = server.server,
    description = title,
    version = '0.0.0',
  } = { title: server.name, description: server.description, version: server.version }
  const { owner, team, status, replaced_by: replacedBy, tools } = server
  return {
    $schema: SCHEMA,
    name: name.data,
    title: title.slice(0, MAX_DESCRIPTION_LENGTH),
    description: description.slice(0, MAX_DESCRIPTION_LENGTH),
    version,
    ...(isResource(server.resource) ? { remotes: [{ type: 'streamable-http', url: server.resource }] } : {}),
    ...(server.published === undefined || server.published.packages.length === 0
      ? {}
      : { packages: server.published.packages }),
    _meta: {
      [PUBLISHER]: {
        owner,
        team,
        status,
        replaced_by: replacedBy,
        tools: Object.entries(tools).map(([tool, { description: what, deprecated }]) => ({
          name: tool,
          description: what,
          ...(deprecated ? { deprecated } : {}),
        })),
      },
    },
  }
}
