import { refuse } from '#errors'
import { didYouMean } from '#foundation/text'
import { type KnownClient, knownBy } from '#identity/client'
import { clientConsentOwner } from '#identity/validity'
import { clientApprovalSchema, clientQuerySchema, clientRevocationSchema, MAX_ROWS } from './contract.ts'
import type { AdminContext } from './dependencies.ts'
import { parse, type AdminEndpoints, type AdminRequest, unconfirmedAs } from './endpoint.ts'

const hostOf = (uri: string): string => {
  const { host, protocol } = new URL(uri)
  return host === '' || protocol !== 'https:' ? `${protocol}//${host}` : host
}

const factsOf = (client: KnownClient) => ({
  client: client.id,
  known: client.known,
  name: client.name,
  redirect_hosts: [...new Set(client.metadata.redirectUris.map(hostOf))],
  approved: client.isApproved,
  first_seen: client.firstSeen ?? null,
  last_used: client.lastUsed ?? null,
})

/** Every client that is known, and those of which only sign-ins are left. */
const list = async ({ clientRegistry, store }: AdminContext) => {
  const sessions = new Map((await store.clientSessions.byClient()).map((each) => [each.client, each]))
  const known = (await clientRegistry.list(MAX_ROWS)).map(factsOf)
  const listed = new Set(known.map(({ client }) => client))
  const left = [...sessions.keys()]
    .filter((client) => !listed.has(client))
    .map((client) => ({
      client,
      known: knownBy(client),
      name: client,
      redirect_hosts: [],
      approved: false,
      first_seen: null,
      last_used: null,
    }))
  return [...known, ...left].slice(0, MAX_ROWS).map((each) => {
    const { sessions: count = 0, firstAt, lastAt } = sessions.get(each.client) ?? {}
    return {
      ...each,
      first_seen: each.first_seen ?? firstAt ?? null,
      last_used: Math.max(each.last_used ?? 0, lastAt ?? 0) || null,
      sessions: count,
    }
  })
}

/** @throws DeputyError `name_unknown` */
const unknown = async ({ clientRegistry }: AdminContext, client: string) => {
  const near = didYouMean(
    client,
    (await clientRegistry.list(MAX_ROWS)).map(({ id }) => id),
  )
  return refuse('name_unknown', { kind: 'client', name: client, hint: near === '' ? '' : ` ${near}` })
}

/** The consents that users have given a client. */
const consentsOf = async ({ store }: AdminContext, client: string, changedAt: number) => {
  const { downstream } = clientConsentOwner({ tenant: '', user: '', server: '', client })
  return (await store.consents.list({ downstream })).slice(0, MAX_ROWS).map((consent) => ({
    tenant: consent.tenant,
    user: consent.user,
    server: consent.server,
    scopes: consent.granted,
    at: consent.at,
    until: consent.until,
    counts: consent.at >= changedAt,
  }))
}

/** The tenant and the servers of an agent: a program that acts for itself. */
const agentOf = ({ snapshot }: AdminContext, client: string): object => {
  const agent = snapshot().clients.get(client)?.agent
  return agent === undefined ? {} : { agent: { tenant: agent.tenant, servers: Object.keys(agent.servers) } }
}

const show = async (context: AdminContext, client: string): Promise<object> => {
  const found = await context.clientRegistry.find(client)
  const sessions = await context.store.clientSessions.list({ client }, MAX_ROWS)
  if (found === undefined && sessions.length === 0) throw await unknown(context, client)
  return {
    ...(found === undefined
      ? { client, known: knownBy(client), name: client, gone: true }
      : {
          ...factsOf(found),
          redirect_uris: found.metadata.redirectUris,
          authentication: found.metadata.authentication,
          proven_by: found.provenBy ?? null,
          changed_at: found.changedAt || null,
          approved_by: found.approved ?? null,
          expires_at: found.expiresAt ?? null,
          ...agentOf(context, client),
        }),
    sessions: sessions.map(({ id, tenant, user, server, createdAt, usedAt, expiresAt }) => ({
      session: id,
      tenant,
      user,
      server,
      since: createdAt,
      last_used: usedAt,
      expires_at: expiresAt,
    })),
    consents: await consentsOf(context, client, found?.changedAt ?? 0),
  }
}

const approve = async (context: AdminContext, request: AdminRequest): Promise<object> => {
  const { client } = parse(clientApprovalSchema, request.body)
  const found = await context.clientRegistry.find(client)
  if (found === undefined) throw await unknown(context, client)
  if (found.known === 'file') return { client, approved: true, note: 'A client that has a file needs no approval.' }
  const { metadata, digest } = found
  await request.recordFirst({
    event: 'client.approve',
    detail: { client, name: metadata.name, redirect_uris: metadata.redirectUris, digest },
  })
  // What is approved is what was looked at: a document that has changed meanwhile is another.
  const approved = await context.clientRegistry.approve(client, request.by(), digest)
  if (approved?.approved === undefined) throw await unknown(context, client)
  return { ...factsOf(approved), note: null }
}

/** Whether users could sign in at the client again, and what keeps them from it. */
const afterwards = (client: string, wasRemoved: boolean): string => {
  if (knownBy(client) === 'file')
    return `Users can sign in at it again while its file has enabled: true; write enabled: false in clients/${client}.yaml.`
  if (knownBy(client) === 'document')
    return 'Users can sign in at it again while clients.metadata_documents.hosts names its host.'
  return wasRemoved
    ? 'Its registration is removed; a new one gets another id.'
    : 'Its registration stays, so that users can sign in at it again.'
}

const revoke = async (context: AdminContext, request: AdminRequest): Promise<object> => {
  const { client, tenant, reason } = parse(clientRevocationSchema, request.body)
  const scope = { kind: 'client', client, ...(tenant === undefined ? {} : { tenant }) } as const
  await context.check.scope(scope, false)
  // First, so that no sign-in begins while the others end.
  const wasRemoved = tenant === undefined && knownBy(client) !== 'file' && (await context.clientRegistry.remove(client))
  const receipt = await context.revoker
    .revoke({
      scope,
      by: request.by(),
      correlationId: request.correlationId,
      ...(reason === undefined ? {} : { reason }),
    })
    .catch(unconfirmedAs('order_unrecorded'))
  return { ...receipt, removed: wasRemoved, note: afterwards(client, wasRemoved) }
}

/** MCP clients at which users sign in through Deputy. Those of files are changed in their files. */
export const clientEndpoints = (context: AdminContext): AdminEndpoints => ({
  'GET /clients': () => list(context),
  'GET /clients/show': ({ query }) => show(context, parse(clientQuerySchema, query).client),
  'POST /clients/approve': (request) => approve(context, request),
  'POST /clients/revoke': (request) => revoke(context, request),
})
