import { isIP } from 'node:net'
import { z } from 'zod'
import { documentOf, callbackUrlOf, pagesUrlOf, type Settings } from '#config'
import {
  type AuthorizationServer,
  documentAuthentication,
  registerAt,
  registrableAuthentication,
  type RemoteFacts,
} from '#credentials/provider'
import type { Secret } from '#foundation/crypto'
import { createConnectionGuard } from '#foundation/outbound'
import type { SecretOrder } from '#listeners/admin-api'
import type { RemoteContext, RemoteRequest, RemoteResult } from './remote-request.ts'
import { callDaemon } from '../socket-client.ts'
import { CommandError, exit } from '../terminal.ts'

interface Found {
  readonly server: AuthorizationServer
  readonly scopes: readonly string[]
}
type ClientResult = Pick<RemoteResult, 'how' | 'secretExpiresAt'> & Pick<RemoteFacts, 'client'>

/** Deputy's client at the authorization server: the admin's, else by document, else registered. @throws CommandError where it can be neither */
export const clientAt = async (wanted: RemoteRequest, found: Found, context: RemoteContext): Promise<ClientResult> => {
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
    `Register a client there by hand with the redirect URI ${redirectUriOf(context.settings, wanted.id)}, then: deputy downstream add ${wanted.known === undefined ? `--mcp ${wanted.url}` : `--known ${wanted.known.known}`} --client-id ID --client-secret-file PATH`,
  )
}

const redirectUriOf = (settings: Settings, id: string): string =>
  callbackUrlOf(pagesUrlOf(settings), { provider: id, redirect_uri: 'own' })

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
    redirectUri: redirectUriOf(context.settings, wanted.id),
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
