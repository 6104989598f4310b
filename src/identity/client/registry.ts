import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { Clock, Random } from '#clock'
import { type Client, type CurrentSnapshot, isNamedHost, REGISTERED_PREFIX } from '#config'
import { refuse } from '#errors'
import type { AuditLog } from '#foundation/audit'
import { type Envelope, randomText, Secret } from '#foundation/crypto'
import { type ClientRecord, clientRecordName, type ClientRecordStore } from '#foundation/store'
import { createLru } from '#foundation/lru'
import type { Logger } from '#foundation/telemetry'
import { fileOfClient, type KnownBy, knownBy } from './known-by.ts'
import { changedProofs, type ClientMetadata, clientMetadataSchema, digestOf } from './metadata.ts'

/** Registered clients that are kept in memory, and for how long (ms). */
const [RECENT, RECENT_MS] = [1000, 60_000]
/** A client that waits for its approval is known for this long at least (ms): administrators have weekends. */
const WAITING_MS = 7 * 86_400_000

const recordSchema = z.strictObject({
  id: z.string(),
  metadata: clientMetadataSchema,
  /** `sha256$` and the digest of the secret; of registered clients that have one. */
  secret: z.string().optional(),
  digest: z.string(),
  /** When Deputy first saw what `digest` is of. */
  changedAt: z.number(),
  /** When the document was fetched, and until when it counts; of documents only. */
  checkedAt: z.number().optional(),
  freshUntil: z.number().optional(),
  approved: z.strictObject({ by: z.string(), at: z.number() }).optional(),
})
type Known = z.output<typeof recordSchema>

/** An MCP client at which users can sign in. Times are ms since the epoch. */
export interface KnownClient {
  readonly id: string
  readonly known: KnownBy
  /** What it is called; not to be believed of a client that has registered itself. */
  readonly name: string
  /** What users can rely on when they are asked about it; undefined: nothing. */
  readonly provenBy: string | undefined
  readonly metadata: ClientMetadata
  /** The stored form of its secret. */
  readonly secret?: string
  readonly digest: string
  /** Since when it is as it is: what was allowed before counts no more. */
  readonly changedAt: number
  /** Whether users can sign in at it; false: an administrator has to approve it first. */
  readonly isApproved: boolean
  readonly approved?: { readonly by: string; readonly at: number }
  readonly firstSeen?: number
  readonly lastUsed?: number
  readonly expiresAt?: number
}

/** What was last seen of a client's document. */
export interface SeenDocument {
  readonly metadata: ClientMetadata
  readonly checkedAt: number
  readonly freshUntil: number
}

export interface ClientRegistry {
  /** Undefined when it is not known, not any more, or disabled by its file. */
  find(id: string): Promise<KnownClient | undefined>
  /**
   * As `find`, but of a client that has registered itself, it may be of up to a minute ago: such a client never
   * changes, and what it has ends by revocations, whether it is still known or not. Not for what begins a sign-in.
   */
  recent(id: string): Promise<KnownClient | undefined>
  /** A client that describes itself. @throws DeputyError `rate_limited` where too many are unused */
  register(metadata: ClientMetadata): Promise<{ client: KnownClient; secret?: Secret }>
  seenDocument(id: string): Promise<SeenDocument | undefined>
  /**
   * Notes what a client's document says now.
   * @param endSignIns called before a change counts by which another party could have become the client: where answers
   * go, or how it proves itself
   * @throws DeputyError `rate_limited` where too many clients are unused */
  noteDocument(
    id: string,
    metadata: ClientMetadata,
    freshUntil: number,
    endSignIns?: (changed: string) => Promise<void>,
  ): Promise<void>
  /** A user has signed in at it. @param until the end of the sign-in */
  used(id: string, until: number): Promise<void>
  /** A user has met its page that says that it waits for approval. */
  waits(id: string): Promise<void>
  /**
   * @param digest of what is approved: what the client has become since is not
   * @returns the client; undefined when there is none that a file does not name
   */
  approve(id: string, by: string, digest: string): Promise<KnownClient | undefined>
  remove(id: string): Promise<boolean>
  /** Those of files first, then those that are used, then the latest. */
  list(limit: number): Promise<KnownClient[]>
}

export interface ClientRegistryOptions {
  readonly store: ClientRecordStore
  readonly envelope: Envelope
  readonly snapshot: CurrentSnapshot
  readonly audit: Pick<AuditLog, 'append'>
  readonly clock: Clock
  readonly random: Random
  readonly newId: () => string
  readonly logger: Logger
}

const fromFile = ({
  client: id,
  name,
  owner,
  redirect_uris: redirectUris,
  authentication,
  agent,
}: Client): KnownClient => {
  const metadata: ClientMetadata = {
    name: name ?? id,
    redirectUris,
    grantTypes:
      agent === undefined
        ? [
            ...(redirectUris.length > 0 ? ['authorization_code'] : []),
            'refresh_token',
            'urn:ietf:params:oauth:grant-type:device_code',
          ]
        : ['client_credentials'],
    isBound: false,
    ...(authentication === 'none'
      ? { authentication }
      : 'client_secret' in authentication
        ? { authentication: 'client_secret_basic' }
        : { authentication: 'private_key_jwt', jwks: authentication.private_key_jwt.jwks }),
  }
  return {
    id,
    known: 'file',
    name: name ?? id,
    provenBy: `the administrator; ${owner} answers for it`,
    metadata,
    ...(authentication !== 'none' && 'client_secret' in authentication
      ? { secret: authentication.client_secret.scrypt }
      : {}),
    digest: digestOf(metadata),
    changedAt: 0,
    isApproved: true,
  }
}

/** Of a secret that Deputy has made itself: there is nothing to guess, so that no slow hash is needed. */
export const hashOfRandomSecret = (secret: Secret): string =>
  `sha256$${createHash('sha256').update(secret.reveal()).digest('base64url')}`

class SealedClients implements ClientRegistry {
  readonly #options: ClientRegistryOptions
  /** Records that were opened, with the bytes that they were opened from: while the store has the same, they say the same. */
  readonly #opened = createLru<string, { readonly sealed: Uint8Array; readonly known: Known }>({ max: 1000 })
  readonly #recent = createLru<string, KnownClient>({ max: RECENT, ttl: RECENT_MS })

  constructor(options: ClientRegistryOptions) {
    this.#options = options
  }

  async find(id: string): Promise<KnownClient | undefined> {
    const { snapshot, store, clock } = this.#options
    if (knownBy(id) === 'file') {
      const file = fileOfClient(id, snapshot())
      return file === undefined ? undefined : fromFile(file)
    }
    const row = await store.find(id, clock.now())
    const known = row === undefined ? undefined : await this.#open(row)
    return row === undefined || known === undefined ? undefined : this.#shown(row, known)
  }

  async recent(id: string): Promise<KnownClient | undefined> {
    if (knownBy(id) !== 'registered') return this.find(id)
    const seen = this.#recent.get(id)
    if (seen !== undefined) return seen
    const found = await this.find(id)
    if (found !== undefined) this.#recent.set(id, found)
    return found
  }

  async register(metadata: ClientMetadata): Promise<{ client: KnownClient; secret?: Secret }> {
    const { random, clock } = this.#options
    const id = `${REGISTERED_PREFIX}${randomText(random, 18)}`
    const secret = metadata.authentication === 'none' ? undefined : new Secret(randomText(random, 32))
    const known: Known = {
      id,
      metadata,
      ...(secret === undefined ? {} : { secret: hashOfRandomSecret(secret) }),
      digest: digestOf(metadata),
      changedAt: clock.now(),
    }
    const client = this.#shown(await this.#add(known), known)
    return { client, ...(secret === undefined ? {} : { secret }) }
  }

  async seenDocument(id: string): Promise<SeenDocument | undefined> {
    const { store, clock } = this.#options
    const row = await store.find(id, clock.now())
    const known = row === undefined ? undefined : await this.#open(row)
    if (known?.checkedAt === undefined || known.freshUntil === undefined) return undefined
    return { metadata: known.metadata, checkedAt: known.checkedAt, freshUntil: known.freshUntil }
  }

  async noteDocument(
    id: string,
    metadata: ClientMetadata,
    freshUntil: number,
    endSignIns?: (changed: string) => Promise<void>,
  ): Promise<void> {
    const { clock } = this.#options
    const now = clock.now()
    const digest = digestOf(metadata)
    const seen = { metadata, digest, checkedAt: now, freshUntil }
    const noted = await this.#change(id, async ({ approved, ...known }, { usedAt }) => {
      if (known.digest === digest) return { ...known, ...seen, ...(approved === undefined ? {} : { approved }) }
      // What users and administrators have said yes to is not what it is now. The record comes before the change (promise 3).
      const changed = changedProofs(known.metadata, metadata)
      if (usedAt !== null) await this.#recordChange(known, { ...known, ...seen }, approved !== undefined)
      if (usedAt !== null && changed.length > 0) await endSignIns?.(changed.join(', '))
      return { ...known, ...seen, changedAt: now }
    })
    if (!noted) await this.#add({ id, ...seen, changedAt: now })
  }

  async used(id: string, until: number): Promise<void> {
    const { store, snapshot, clock } = this.#options
    if (knownBy(id) === 'file') return
    await store.used(id, clock.now(), until + snapshot().settings.clients.registration.used_lifetime)
  }

  async waits(id: string): Promise<void> {
    const { store, clock } = this.#options
    await store.used(id, null, clock.now() + WAITING_MS)
  }

  async approve(id: string, by: string, digest: string): Promise<KnownClient | undefined> {
    const at = this.#options.clock.now()
    const isThere = await this.#change(id, (known) =>
      Promise.resolve(known.digest === digest ? { ...known, approved: { by, at } } : known),
    )
    if (!isThere) return undefined
    await this.used(id, at)
    return this.find(id)
  }

  remove(id: string): Promise<boolean> {
    this.#recent.delete(id)
    return this.#options.store.remove(id)
  }

  async list(limit: number): Promise<KnownClient[]> {
    const { store, snapshot, clock } = this.#options
    const rows = (await store.list(limit)).filter(({ expiresAt }) => expiresAt > clock.now())
    const opened = await Promise.all(
      rows.map(async (row) => {
        const known = await this.#open(row)
        return known === undefined ? [] : [this.#shown(row, known)]
      }),
    )
    return [...[...snapshot().clients.values()].map(fromFile), ...opened.flat()].slice(0, limit)
  }

  async #open(row: ClientRecord): Promise<Known | undefined> {
    const { envelope, logger } = this.#options
    const opened = this.#opened.get(row.id)
    if (opened !== undefined && Buffer.compare(opened.sealed, row.sealed) === 0) return opened.known
    try {
      const text = await envelope.open(clientRecordName(row.id), row.sealed)
      const known = recordSchema.parse(JSON.parse(text.reveal()))
      this.#opened.set(row.id, { sealed: row.sealed, known })
      return known
    } catch (error) {
      logger.error({ err: error, client: row.id }, 'the record of a client cannot be read')
      return undefined
    }
  }

  #seal(known: Known): Promise<Uint8Array> {
    return this.#options.envelope.seal(clientRecordName(known.id), new Secret(JSON.stringify(known)))
  }

  async #add(known: Known): Promise<ClientRecord> {
    const { store, snapshot, clock } = this.#options
    const { limit, unused_lifetime: lifetime } = snapshot().settings.clients.registration
    const now = clock.now()
    if ((await store.unused(limit, now)) >= limit)
      throw refuse('rate_limited', { what: 'clients with which no user has signed in', seconds: 3600 })
    // One that has expired makes room for its like.
    if ((await store.find(known.id, now)) === undefined) await store.remove(known.id)
    const row = { id: known.id, sealed: await this.#seal(known), createdAt: now, expiresAt: now + lifetime }
    await store.add(row)
    return { ...row, usedAt: null }
  }

  /** @returns false when there is none. A change by another node meanwhile is read, and changed in its turn. */
  async #change(id: string, to: (known: Known, row: ClientRecord) => Promise<Known>): Promise<boolean> {
    const { store, clock } = this.#options
    for (;;) {
      const row = await store.find(id, clock.now())
      const known = row === undefined ? undefined : await this.#open(row)
      if (row === undefined || known === undefined) return false
      if (await store.replace(id, row.sealed, await this.#seal(await to(known, row)))) return true
    }
  }

  async #recordChange(was: Known, is: Known, wasApproved: boolean): Promise<void> {
    const facts = ({ metadata: { name, redirectUris, authentication }, digest }: Known) => ({
      name,
      redirect_uris: redirectUris,
      authentication,
      digest,
    })
    await this.#options.audit.append({
      id: this.#options.newId(),
      event: 'client.change',
      outcome: 'done',
      detail: { client: was.id, was: facts(was), is: facts(is), approval_ended: wasApproved },
    })
  }

  #shown(row: ClientRecord, known: Known): KnownClient {
    const { approval, metadata_documents: documents } = this.#options.snapshot().settings.clients
    const { id, metadata, secret, digest, changedAt, approved } = known
    const how = knownBy(id)
    const host = how === 'document' ? new URL(id).host : undefined
    const isTrusted = host !== undefined && isNamedHost(host, documents.hosts)
    return {
      id,
      known: how,
      name: metadata.name ?? id,
      provenBy: host,
      metadata,
      ...(secret === undefined ? {} : { secret }),
      digest,
      changedAt,
      isApproved: approval === 'none' || isTrusted || approved !== undefined,
      ...(approved === undefined ? {} : { approved }),
      firstSeen: row.createdAt,
      ...(row.usedAt === null ? {} : { lastUsed: row.usedAt }),
      expiresAt: row.expiresAt,
    }
  }
}

/**
 * The MCP clients that Deputy knows: those of files, and the sealed records of those that have registered themselves or have a
 * document. Who can write the store makes no client, and approves none.
 */
export const createClientRegistry = (options: ClientRegistryOptions): ClientRegistry => new SealedClients(options)
