import { existsSync } from 'node:fs'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { pagesUrlOf, readProviders, type Settings } from '#config'
import {
  findAuthorizationServer,
  findProtectedResource,
  type ProtectedResource,
  usableScopes,
} from '#credentials/provider'
import { createConnectionGuard } from '#foundation/outbound'
import { shipped } from '../home.ts'
import { clientAt } from './remote-client.ts'
import type { RemoteContext, RemoteRequest, RemoteResult } from './remote-request.ts'
import { CommandError, exit } from '../terminal.ts'

/** An id for a server by its host: `linear-mcp` for mcp.linear.app. It differs from the ids of shipped providers, which are for the APIs. */
export const idForServer = (url: string): string => {
  const { hostname } = new URL(url)
  const labels = isIP(hostname.replace(/^\[|\]$/g, '')) === 0 ? hostname.split('.').slice(0, -1) : []
  const name = labels.filter((label) => !['mcp', 'api', 'www'].includes(label)).join('-')
  return `${name === '' ? 'remote' : name.slice(0, 50)}-mcp`
}

/** Nothing is overwritten, and nothing is registered for files that could not be written. @throws CommandError */
export const assertNew = async ({ home }: Pick<RemoteContext, 'home'>, id: string): Promise<void> => {
  for (const file of [`providers/${id}.yaml`, `downstreams/${id}.yaml`])
    if (existsSync(join(home, file)))
      throw new CommandError(exit.failed, `${file} exists already.`, 'Choose another id with --id, or edit the file.')
  if ((await readProviders(home, shipped.providers, [])).has(id))
    throw new CommandError(
      exit.failed,
      `There is a provider ${id} already, and a file of that id would replace it.`,
      'Choose another id with --id.',
    )
}

/**
 * Reads what a remote MCP server and its authorization server say, and makes Deputy a client there.
 * @throws DeputyError `remote_server_refused`, `egress_refused`; CommandError
 */
export const addRemoteServer = async (wanted: RemoteRequest, context: RemoteContext): Promise<RemoteResult> => {
  const { settings, egress } = context
  const resource = await findProtectedResource(wanted.url, { egress })
  const server = await findAuthorizationServer(
    wanted.url,
    { issuer: issuerOf(wanted, resource), resource: resource.resource },
    { egress, assertReachable: guardOf(settings).assertReachable, ownOrigins: ownOriginsOf(settings) },
  )
  const scopes = scopesFor(resource, wanted.known?.scopes ?? {})
  assertSameHost(wanted, server.issuer)
  const { client, how, secretExpiresAt } = await clientAt(wanted, { server, scopes: Object.keys(scopes) }, context)
  const { url, id, name, tenants } = wanted
  return {
    facts: { id, name, url, resource, server, client, tenants, scopes },
    how,
    issuers: resource.authorizationServers,
    secretExpiresAt,
  }
}

/**
 * The scopes for the files, with their descriptions: those that the server lists. Where its documentation names scopes, the others of
 * the list are for other clients.
 */
const scopesFor = (
  resource: ProtectedResource,
  documented: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> => {
  const listed = usableScopes(resource.scopes)
  const both = listed.filter((scope) => Object.hasOwn(documented, scope))
  if (both.length > 0 || listed.length === 0)
    return listed.length === 0 ? documented : Object.fromEntries(both.map((scope) => [scope, documented[scope]!]))
  return Object.fromEntries(listed.map((scope) => [scope, scope]))
}

const guardOf = ({ network }: Settings): Pick<ReturnType<typeof createConnectionGuard>, 'assertReachable'> =>
  createConnectionGuard({ allowLoopback: network.allow_loopback, allowPrivate: network.allow_private })

const ownOriginsOf = (settings: Settings): Set<string> =>
  new Set([pagesUrlOf(settings), settings.issuer].flatMap((url) => (url === undefined ? [] : [new URL(url).origin])))

/** The authorization server to use: the one that the admin or the documentation names, and only if the server names it too. */
const issuerOf = ({ url, known, issuer }: RemoteRequest, resource: ProtectedResource): string => {
  const { authorizationServers: named } = resource
  const pinned = issuer ?? known?.authorization_server
  if (pinned === undefined) return named[0]
  // RFC 9728 lists issuer identifiers; a slash at the end is the one difference that pages have from metadata.
  const match = named.find((each) => each === pinned) ?? named.find((each) => each === `${pinned.replace(/\/$/, '')}/`)
  if (match !== undefined) return match
  throw new CommandError(
    exit.failed,
    `${url} names the authorization server ${named.join(', ')}, not ${pinned}.`,
    issuer === undefined
      ? `If its operator has moved it, add it by its URL: deputy downstream add --mcp ${url}`
      : 'Name one of those with --authorization-server, or none.',
  )
}

/**
 * A server can name the authorization server of another operator. If that one ignores `resource`, it issues tokens for its own services,
 * which the server would receive and could use there. Where the hosts differ, a person therefore names the authorization server.
 * @throws CommandError
 */
const assertSameHost = ({ url, known, issuer }: RemoteRequest, found: string): void => {
  if (known !== undefined || issuer !== undefined || new URL(found).hostname === new URL(url).hostname) return
  throw new CommandError(
    exit.failed,
    `${url} names the authorization server ${found}, which is at another host. A server that names the authorization server of another operator could receive tokens for the services of that operator.`,
    `If the operator of the server documents it: deputy downstream add --mcp ${url} --authorization-server ${found}`,
  )
}
