import { errors, type KoaContextWithOIDC } from 'oidc-provider'
import type { Clock } from '#clock'
import { type CurrentSnapshot, isNamedHost, type Snapshot } from '#config'
import { asDeputyError } from '#errors'
import type { Rates } from '#foundation/cache'
import { createLru } from '#foundation/lru'
import type { Egress } from '#foundation/outbound'
import type { Logger } from '#foundation/telemetry'
import { type ClientMetadata, type ClientRegistry, readClientMetadata } from '#identity/client'
import { asLibraryError } from './library-error.ts'
import { toLibrary } from './clients.ts'
import { addressOf, admitNewClient } from './new-clients.ts'

export interface DocumentDependencies {
  readonly clientRegistry: Pick<ClientRegistry, 'seenDocument' | 'noteDocument'>
  /** Ends all sign-ins at a client, at every node. */
  readonly endClient: (client: string, reason: string) => Promise<void>
  readonly snapshot: CurrentSnapshot
  readonly egress: Egress
  /** Reaches public addresses alone. */
  readonly publicEgress: Egress
  readonly rates: Pick<Rates, 'admit'>
  readonly issuer: string
  readonly clock: Clock
  readonly logger: Logger
}

const MAX_ID_LENGTH = 1024
/** How long a document counts at least before it is fetched again, where `recheck` is no shorter (ms). */
const MIN_FRESH_MS = 300_000
/** How long a document that was seen before still counts while its host does not answer (ms). */
const MAX_STALE_MS = 7 * 86_400_000
/** How long a host that does not answer, or answers with something else, is left alone about a document (ms). */
const RETRY_MS = 60_000

const refused = (problem: string): Error => new errors.InvalidClient(`the document of the client ${problem}`)

/** Whether a client may be known by its document: its host is trusted, or an administrator will be asked about it. */
const isHostTaken = (id: string, { settings: { clients } }: Pick<Snapshot, 'settings'>): boolean =>
  clients.metadata_documents.enabled &&
  (clients.approval === 'unknown' || isNamedHost(new URL(id).host, clients.metadata_documents.hosts))

/** @throws an error of the library where an id is no address that a document can have (draft section 3) */
const assertAddress = (id: string, { snapshot, issuer }: DocumentDependencies): void => {
  const { host, pathname, search } = new URL(id)
  if (id.length > MAX_ID_LENGTH) throw refused('has an address that is too long')
  if (pathname === '/' || search !== '') throw refused('needs an address with a path and without a query')
  // What is there describes Deputy to providers.
  if (host === new URL(issuer).host) throw refused('cannot be at the authorization server itself')
  if (!isHostTaken(id, snapshot())) throw refused(`is at ${host}, which this authorization server does not trust`)
}

/** For how long an answer says that it counts (ms), within what Deputy wants. */
const freshFor = (answer: Response, recheck: number): number => {
  const seconds = /(?:^|[,\s])max-age=(\d{1,9})/i.exec(answer.headers.get('cache-control') ?? '')?.[1]
  return Math.min(recheck, Math.max(MIN_FRESH_MS, Number(seconds ?? 0) * 1000))
}

type Fetched = { readonly metadata: ClientMetadata; readonly freshFor: number } | { readonly isAway: true; why: string }

/** The way out to a host: what the settings allow inside counts for hosts alone that the administrator has named for documents. */
const egressTo = (url: string, { egress, publicEgress, snapshot }: DocumentDependencies): Egress => {
  const { hosts } = snapshot().settings.clients.metadata_documents
  return hosts !== '*' && isNamedHost(new URL(url).host, hosts) ? egress : publicEgress
}

/** Reads a document. A host that does not answer is another thing than one that answers with something else. */
const fetchDocument = async (id: string, deps: DocumentDependencies): Promise<Fetched> => {
  const { registration, metadata_documents: documents, redirect_schemes: schemes } = deps.snapshot().settings.clients
  let answer: Response
  let body: unknown
  try {
    const egress = egressTo(id, deps)
    answer = await egress(id, { headers: { accept: 'application/json' }, maxBytes: registration.max_bytes })
    if (answer.status === 429 || answer.status >= 500) return { isAway: true, why: `answered with ${answer.status}` }
    body = answer.status === 200 ? await answer.json().catch(() => undefined) : undefined
  } catch (error) {
    return { isAway: true, why: asDeputyError(error).code === 'internal' ? 'did not answer' : 'cannot be reached' }
  }
  if (answer.status !== 200) throw refused(`cannot be read: its host answered with ${answer.status}`)
  if (typeof body !== 'object' || body === null) throw refused('is no JSON object')
  if (!('client_id' in body) || body.client_id !== id) throw refused('has another client_id than its address')
  if ('client_secret' in body) throw refused('has a client secret')
  try {
    return {
      metadata: readClientMetadata(body, 'document', schemes),
      freshFor: freshFor(answer, documents.recheck),
    }
  } catch (error) {
    throw asLibraryError(error)
  }
}

/** The library's feature of Client ID Metadata Documents, with Deputy's rules, its way out, and what it has seen before. */
export const createDocuments = (deps: DocumentDependencies, grantTypes: ReadonlySet<string>) => {
  const { clientRegistry, endClient, snapshot, rates, clock, logger } = deps
  /** What the library is given where it asks for a document, by the document's address. */
  const resolved = createLru<string, string>({ max: 1000 })
  const failed = createLru<string, { readonly until: number; readonly error: Error }>({ max: 1000 })

  const load = async (id: string, address: string): Promise<ClientMetadata> => {
    const now = clock.now()
    const seen = await clientRegistry.seenDocument(id)
    if (seen !== undefined && seen.freshUntil > now) return seen.metadata
    const failure = failed.get(id)
    const mayFetch = failure === undefined || failure.until <= now
    if (!mayFetch && seen === undefined) throw failure.error
    if (seen === undefined) await admitNewClient(rates, address)
    const fetched: Fetched = mayFetch ? await fetchDocument(id, deps) : { isAway: true, why: 'did not answer' }
    if (!('isAway' in fetched)) {
      await clientRegistry.noteDocument(id, fetched.metadata, now + fetched.freshFor, (changed) =>
        endClient(id, `its document has another ${changed}`),
      )
      return fetched.metadata
    }
    const error = refused(`cannot be read: its host ${fetched.why}`)
    if (mayFetch) failed.set(id, { until: now + RETRY_MS, error })
    // Users who have signed in go on while the host is away.
    if (seen !== undefined && now - seen.checkedAt < MAX_STALE_MS) return seen.metadata
    throw error
  }

  /** Documents that are being read: requests that want the same one wait for one answer. */
  const underWay = new Map<string, Promise<ClientMetadata>>()
  const loadOnce = (id: string, address: string): Promise<ClientMetadata> => {
    const begun = underWay.get(id)
    if (begun !== undefined) return begun
    const loading = load(id, address).finally(() => {
      underWay.delete(id)
    })
    underWay.set(id, loading)
    return loading
  }

  const resolve = async (id: string, address: string): Promise<void> => {
    assertAddress(id, deps)
    try {
      const metadata = await loadOnce(id, address)
      resolved.set(id, JSON.stringify(toLibrary({ id, metadata }, grantTypes)))
    } catch (error) {
      if (error instanceof errors.InvalidClient && failed.get(id) === undefined)
        failed.set(id, { until: clock.now() + RETRY_MS, error })
      logger.info({ client: id, err: error }, 'the document of a client cannot be used')
      throw asLibraryError(error)
    }
  }

  return {
    /** For `features.clientIdMetadataDocument`. */
    feature: {
      enabled: true,
      ack: 'draft-02',
      allowFetch: async (context: KoaContextWithOIDC | undefined, id: string) => {
        await resolve(id, context === undefined ? 'unknown' : addressOf(context.req))
        return true
      },
      allowClient: (_context: KoaContextWithOIDC | undefined, { clientId }: { clientId: string }) =>
        isHostTaken(clientId, snapshot()),
      // The store knows for how long a document counts, for all nodes; the library's own memory only takes off the edge.
      cacheDuration: {
        min: 1,
        max: Math.max(1, Math.min(60, Math.floor(snapshot().settings.clients.metadata_documents.recheck / 1000))),
      },
    },
    /** For `fetch`: documents as they were resolved, and the keys that a document has at another address. */
    async fetch(input: string | URL | Request): Promise<Response> {
      const url = input instanceof Request ? input.url : String(input)
      const document = resolved.get(url)
      if (document !== undefined) return new Response(document, { headers: { 'content-type': 'application/json' } })
      const { max_bytes: maxBytes } = snapshot().settings.clients.registration
      return egressTo(url, deps)(url, { headers: { accept: 'application/json' }, maxBytes: Math.max(maxBytes, 65_536) })
    },
  }
}
