import { createHash } from 'node:crypto'
import { createLru } from '#foundation/lru'
import type { Clock } from '#clock'
import { type CachedCredential, credentialKey, type SharedCredentials } from '#credentials/cache'
import {
  type Connectors,
  type Credential,
  type CredentialRequest,
  downstreamsOf,
  isAbout,
  judgeRejection,
  kinds,
  providerOf,
} from '#credentials/connector'
import type { SecretVersions } from '#credentials/secret'
import type { Cache } from '#foundation/cache'
import type { Logger } from '#foundation/telemetry'

/** A credential whose end is nearer than this is fetched anew (ms): it must outlast the call that it is for. */
const MARGIN = 30_000
/** With less than this left it is of no use to its caller (ms): half of the life of one that is that short. */
const LEAST = 1000
/** Of so many requests it is remembered when their credential was renewed because its service refused it. */
const MAX_RENEWALS = 10_000

/** A credential, and whether it was at hand. */
export interface Obtained {
  readonly credential: Credential
  readonly cached: boolean
  readonly obtainedAt: number
}

/**
 * The credential out of the cache, else from the connector of its kind. Requests for one key share one call of the
 * connector, and the caller's going away does not end it.
 */
export const createObtain = (options: {
  cache: Cache<CachedCredential>
  /** Undefined where no node shares its credentials. */
  shared?: SharedCredentials | undefined
  connectors: Connectors
  clock: Clock
  /** Whether a revocation covers the entry: one that was being fetched while the cache was emptied must not come back. */
  isVoid: (entry: CachedCredential) => boolean
  versionsOf: SecretVersions
  /** The number of the last revocation that is known. */
  lastRevocation: () => number
  /** Whether the store still has the grant that an entry came from: what an admin or a new grant has removed is not served. */
  hasGrant: (grant: string) => Promise<boolean>
  /** Ends a lease whose credential its service refuses. */
  endLease: (lease: string) => Promise<void>
  logger: Logger
}) => {
  const underWay = new Map<string, Promise<Omit<Obtained, 'cached'>>>()

  const isGone = async ({ credential }: CachedCredential): Promise<boolean> =>
    credential.grant !== undefined && !(await options.hasGrant(credential.grant))

  /** What is at hand, if the grant that it came from is still there. */
  const atHand = async (key: string): Promise<CachedCredential | undefined> => {
    const found = options.cache.get(key)
    if (found !== undefined && (await isGone(found))) options.cache.delete(key)
    // It may have been dropped or renewed in the meantime.
    return options.cache.get(key)
  }

  /** What another node has fetched, unless it is void. It is as old as it was there. */
  const fromOthers = async (
    key: string,
    request: CredentialRequest,
    sharedKey: string | undefined,
  ): Promise<CachedCredential | undefined> => {
    if (sharedKey === undefined) return undefined
    const found = await options.shared?.get(request.principal.tenant, sharedKey)
    if (
      found === undefined ||
      options.isVoid(found.entry) ||
      (request.downstream.credential === 'oauth_grant' && (await isGone(found.entry)))
    )
      return undefined
    // Another node has not heard of the refusal yet.
    if (isAbout(request.rejected, found.entry.credential.token)) {
      await options.shared?.remove(sharedKey)
      return undefined
    }
    options.cache.set(key, found.entry, found.expiresAt)
    return found.entry
  }

  const fetchAndKeep = async (
    key: string,
    request: CredentialRequest,
    { startedAt, known: lastRevocation }: { startedAt: number; known: number },
  ): Promise<Omit<Obtained, 'cached'>> => {
    const { principal, server, downstream } = request
    const sharedKey = options.shared?.keyOf(request)
    const known = await fromOthers(key, request, sharedKey)
    if (known !== undefined) return { credential: known.credential, obtainedAt: known.since }
    const credential = await options.connectors[downstream.credential].obtain(request)
    const life = credential.expiresAt - options.clock.now()
    const entry: CachedCredential = {
      credential,
      tenant: principal.tenant,
      user: principal.kind === 'user' ? principal.user : undefined,
      server: server.server,
      downstreams: downstreamsOf(request).map((each) => each.downstream),
      provider: providerOf(downstream),
      // Its own id is the first: a revocation of this very token finds it.
      tokens: [...(credential.tokenId === undefined ? [] : [credential.tokenId]), ...request.ancestors],
      since: startedAt,
      known: lastRevocation,
    }
    if (credential.volatile === true) return { credential, obtainedAt: startedAt }
    const keptUntil = credential.expiresAt - Math.min(MARGIN, Math.max(life / 10, Math.min(LEAST, life / 2)))
    options.cache.set(key, entry, keptUntil)
    // Nobody waits until it is shared.
    if (sharedKey !== undefined)
      options.shared?.set(sharedKey, entry, keptUntil).catch((error: unknown) => {
        options.logger.warn({ err: error }, 'a credential could not be shared')
      })
    return { credential, obtainedAt: startedAt }
  }

  const renewals = createLru<string, number>({ max: MAX_RENEWALS })

  /**
   * Drops a credential that its service refuses, wherever this server has it for this principal. A grant judges a fresh one
   * that is refused as well; of every other kind a fresh one stays.
   * @returns why it was dropped; undefined where it stays
   */
  const dropRejected = async (
    key: string,
    request: CredentialRequest,
    hit: CachedCredential,
  ): Promise<'renew' | 'end' | undefined> => {
    const { rejected, downstream } = request
    if (!isAbout(rejected, hit.credential.token)) return undefined
    const judgement = judgeRejection(renewals.get(key), options.clock.now())
    if (judgement === 'keep' || (judgement === 'end' && downstream.credential !== 'oauth_grant')) return undefined
    if (judgement === 'renew') renewals.set(key, options.clock.now())
    // Before it is dropped: a concurrent request would find the lease in the store and keep it again.
    const { grant } = hit.credential
    if (kinds[downstream.credential].leased === true && grant !== undefined) await options.endLease(grant)
    options.cache.purge(
      ({ tenant, user, server, credential }) =>
        tenant === hit.tenant && user === hit.user && server === hit.server && isAbout(rejected, credential.token),
    )
    return judgement
  }

  /** Requests of which one says that a credential was refused do not share the answer of one that does not know it. */
  const workKeyOf = (key: string, { rejected }: CredentialRequest): string =>
    rejected === undefined ? key : `${key} ${createHash('sha256').update(rejected.token.reveal()).digest('base64url')}`

  return async (given: CredentialRequest, generation: number): Promise<Obtained> => {
    const versions = options.versionsOf(given.downstream, given.principal.tenant)
    const request = versions === undefined ? given : { ...given, secretVersions: await versions }
    const key = credentialKey(request, String(generation))
    const hit = request.downstream.credential === 'oauth_grant' ? await atHand(key) : options.cache.get(key)
    let dropped: 'renew' | 'end' | undefined
    if (hit !== undefined) {
      if (options.isVoid(hit)) options.cache.delete(key)
      else {
        dropped = await dropRejected(key, request, hit)
        if (dropped === undefined) return { credential: hit.credential, cached: true, obtainedAt: hit.since }
      }
    }
    const workKey = workKeyOf(key, request)
    let pending = underWay.get(workKey)
    if (pending === undefined) {
      const wish =
        dropped === undefined
          ? request
          : { ...request, rejected: { ...request.rejected!, handed: true, renewed: dropped === 'end' } }
      pending = fetchAndKeep(key, wish, {
        startedAt: options.clock.now(),
        known: options.lastRevocation(),
      }).finally(() => {
        underWay.delete(workKey)
      })
      underWay.set(workKey, pending)
    }
    return { ...(await pending), cached: false }
  }
}
