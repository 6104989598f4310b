import { existsSync } from 'node:fs'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { z } from 'zod'
import { documentOf, type KnownServer, pagesUrlOf, readProviders, type Settings } from '#config'
import {
  type AuthorizationServer,
  documentAuthentication,
  findAuthorizationServer,
  findProtectedResource,
  type ProtectedResource,
  registerAt,
  registrableAuthentication,
  type RemoteFacts,
  usableScopes,
} from '#credentials/provider'
import type { Secret } from '#foundation/crypto'
import { createConnectionGuard, type Egress } from '#foundation/outbound'
import type { SecretOrder } from '#listeners/admin-api'
import { shipped } from './home.ts'
import { callDaemon } from './socket-client.ts'
import { CommandError, exit } from './terminal.ts'

/** A remote MCP server that an admin wants as a downstream. */
export interface RemoteRequest {
  readonly url: string
  readonly id: string
  readonly name: string
  readonly tenants: '*' | readonly string[]
  /** The tenants of the home that those are now. */
  readonly tenantIds: readonly string[]
  readonly known: KnownServer | undefined
  /** The issuer to take where the server names several. */
  readonly issuer: string | undefined
  /** A client that was registered by hand. */
  readonly client: { readonly clientId: string; readonly secret: Secret | undefined } | undefined
}

export interface RemoteContext {
  readonly home: string
  readonly settings: Settings
  readonly egress: Egress
  readonly socket: string
}

/** What was found and done, for the files and for people. */
export interface RemoteResult {
  readonly facts: RemoteFacts
  readonly how: 'document' | 'dynamic' | 'manual'
  readonly issuers: readonly string[]
  /** When the client's secret ends (ms since the epoch). */
  readonly secretExpiresAt: number | undefined
}

/** An id for a server by its host: `linear-mcp` for mcp.linear.app. It differs from the ids of shipped providers, which are for the APIs. */
export const idForServer = (url: string): string => {
  const { hostname } = new URL(url)
  const labels = isIP(hostname.replace(/^\[|\]$/g, '')) === 0 ? hostname.split('.').slice(0, -1) : []
  const name = labels.filter((label) => !['mcp', 'api', 'www'].includes(label)).join('-')
  return `${name === '' ? 'remote' : name.slice(0, 50)}-mcp`
}

export const redirectUriOf = (settings: Settings): string => `${pagesUrlOf(settings)}/connect/callback`

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

interface Found {
  readonly server: AuthorizationServer
  readonly scopes: readonly string[]
}
type ClientResult = Pick<RemoteResult, 'how' | 'secretExpiresAt'> & Pick<RemoteFacts, 'client'>

/** Deputy's client at the authorization server: the admin's, else by document, else registered. @throws CommandError where it can be neither */
const clientAt = async (wanted: RemoteRequest, found: Found, context: RemoteContext): Promise<ClientResult> => {
  const { server } = found
  if (wanted.client !== undefined) return manualClient(wanted, wanted.client, found, context)
  const documented = wanted.known?.registration
  const method = documentAuthentication(server)
  if (documented !== 'manual') {
    if (
      server.client_id_metadata_document_supported === true &&
      method !== undefined &&
      isPublished(context.settings)
    ) {
      const clientId = `${pagesUrlOf(context.settings)}/clients/${wanted.id}`
      return {
        how: 'document',
        secretExpiresAt: undefined,
        client: { clientId, authentication: method, secretName: undefined },
      }
    }
    const authentication = registrableAuthentication(server, { isPublicPreferred: wanted.tenants === '*' })
    if (server.registration_endpoint !== undefined && authentication !== undefined)
      return registeredClient(wanted, { ...found, authentication }, context)
  }
  throw new CommandError(
    exit.failed,
    `The authorization server ${server.issuer} ${documented === 'manual' ? 'is documented to take only clients that were registered there' : 'takes neither a client metadata document of this Deputy nor a registration'}.`,
    `Register a client there by hand with the redirect URI ${redirectUriOf(context.settings)}, then: deputy downstream add ${wanted.known === undefined ? `--mcp ${wanted.url}` : `--known ${wanted.known.known}`} --client-id ID --client-secret-file PATH`,
  )
}

/** Whether an authorization server can read a document at Deputy's address. */
const isPublished = (settings: Settings): boolean => {
  const pagesUrl = pagesUrlOf(settings)
  const { protocol, hostname } = new URL(pagesUrl)
  const host = hostname.replace(/^\[|\]$/g, '')
  if (protocol !== 'https:' || documentOf({ client_id: `${pagesUrl}/clients/x` }, pagesUrl) === undefined) return false
  if (settings.network.allow_loopback) return true
  if (host === 'localhost' || host.endsWith('.localhost') || (isIP(host) === 0 && !host.includes('.'))) return false
  try {
    createConnectionGuard({ allowLoopback: false, allowPrivate: [] }).assertReachable(new URL(pagesUrl))
    return true
  } catch {
    return false
  }
}

const registeredClient = async (
  wanted: RemoteRequest,
  found: Found & { readonly authentication: 'client_secret_basic' | 'client_secret_post' | 'none' },
  context: RemoteContext,
): Promise<ClientResult> => {
  const { server, authentication } = found
  // A secret is stated once: the store has to be there before it comes.
  if (authentication !== 'none') await assertCanStore(wanted, context)
  const registered = await registerAt(server, {
    url: wanted.url,
    redirectUri: redirectUriOf(context.settings),
    authentication,
    scopes: registeredScopes(found),
    egress: context.egress,
  })
  const { clientId, secret } = registered
  // A server may give a secret to a client that asked for none.
  if (secret !== undefined && authentication === 'none') await assertCanStore(wanted, context)
  const secretName = secret === undefined ? undefined : await storeSecret(wanted, secret, context)
  return {
    how: 'dynamic',
    secretExpiresAt: registered.secretExpiresAt,
    client: { clientId, authentication: registered.authentication, secretName },
  }
}

/**
 * Scopes to register: the client may be held to them later, so `offline_access` is among them. None where the server does not list
 * them all, because a server refuses a registration with scopes that it does not know, and holds a client without scopes to none.
 */
const registeredScopes = ({ server: { scopes_supported: known }, scopes }: Found): readonly string[] => {
  if (known === undefined) return scopes
  const all = known.includes('offline_access') ? [...scopes, 'offline_access'] : scopes
  return all.every((scope) => known.includes(scope)) ? all : []
}

const manualClient = async (
  wanted: RemoteRequest,
  { clientId, secret }: NonNullable<RemoteRequest['client']>,
  { server }: Found,
  context: RemoteContext,
): Promise<ClientResult> => {
  const authentication = registrableAuthentication(server, { isPublicPreferred: secret === undefined })
  if (authentication === undefined || (authentication === 'none') !== (secret === undefined))
    throw new CommandError(
      exit.usage,
      `The authorization server ${server.issuer} ${secret === undefined ? 'requires a client secret' : 'takes no client secret'}.`,
      secret === undefined
        ? 'Name the file that holds it with --client-secret-file.'
        : 'Leave out --client-secret-file.',
    )
  if (secret !== undefined) await assertCanStore(wanted, context)
  const secretName = secret === undefined ? undefined : await storeSecret(wanted, secret, context)
  return { how: 'manual', secretExpiresAt: undefined, client: { clientId, authentication, secretName } }
}

const secretNameOf = (id: string): string => `${id.slice(0, 56)}-client`
const knownSecretsSchema = z.array(z.looseObject({ tenant: z.string(), name: z.string() }))
const writtenSchema = z.looseObject({ version: z.number() })

/** @throws CommandError where the daemon is away, no tenant is there, or the name is taken */
const assertCanStore = async ({ id, tenantIds }: RemoteRequest, { socket }: RemoteContext): Promise<void> => {
  if (tenantIds.length === 0)
    throw new CommandError(exit.failed, 'There is no tenant to keep the client secret for.', 'deputy tenant add --help')
  const secrets = await callDaemon(socket, { path: '/secrets' }, knownSecretsSchema)
  const taken = secrets.find(({ tenant, name }) => name === secretNameOf(id) && tenantIds.includes(tenant))
  if (taken !== undefined)
    throw new CommandError(
      exit.failed,
      `The tenant ${taken.tenant} has a secret ${taken.name} already.`,
      'Choose another id with --id, or remove the secret: deputy secret remove --help',
    )
}

/** Seals the client's secret under the key of each tenant. @returns its name */
const storeSecret = async (
  { id, tenantIds }: RemoteRequest,
  secret: Secret,
  { socket }: RemoteContext,
): Promise<string> => {
  const name = secretNameOf(id)
  for (const tenant of tenantIds)
    await callDaemon(
      socket,
      { path: '/secrets', json: { tenant, name, value: secret.reveal() } satisfies SecretOrder },
      writtenSchema,
    )
  return name
}
