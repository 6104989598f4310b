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
import { EMBEDDED_BACKEND, type SecretVersions } from '#credentials/secret'
import type { Cache } from '#foundation/cache'
import type { RotatedSecret } from '#foundation/store'
import type { Logger } from '#foundation/telemetry'

/** A credential that expires sooner than this is fetched anew (ms): it must outlast the call that it is for. */
const MARGIN_MS = 30_000
/** With less than this left a credential is of no use to its caller (ms): half of its life where that is shorter. */
const MIN_LIFE_MS = 1000
/** Requests for which is remembered when their credential was renewed because its service refused it, at most. */
const MAX_RENEWALS = 10_000

/** A credential, and whether it came out of the cache. */
export interface Obtained {
  readonly credential: Credential
  readonly cached: boolean
  readonly obtainedAt: number
  /** Of one out of the cache: under which it can be found there again, where nothing else has to be asked first. */
  readonly credentialKey?: string
}

interface ObtainOptions {
  readonly cache: Cache<CachedCredential>
  /** Undefined where nodes do not share credentials. */
  readonly shared?: SharedCredentials | undefined
  readonly connectors: Connectors
  readonly clock: Clock
  /** Whether a revocation covers the entry: one that was being fetched while the cache was emptied must not come back. */
  readonly isVoid: (entry: CachedCredential) => boolean
  readonly versionsOf: SecretVersions
  /** Drops the copy of a secret of a backend, so that it is read anew. */
  readonly forgetSecret: (secret: RotatedSecret) => void
  /** The number of the last revocation that is known. */
  readonly lastRevocation: () => number
  /** Whether the store still has the grant that an entry came from: what an admin or a new grant has removed is not served. */
  readonly hasGrant: (grant: string) => Promise<boolean>
  /** Ends a lease whose credential its service refuses. */
  readonly endLease: (lease: string) => Promise<void>
  readonly logger: Logger
}

type Fetched = Omit<Obtained, 'cached'>

/** Requests of which one says that a credential was refused do not share the answer of one that does not know it. */
const workKeyOf = (key: string, { rejected }: CredentialRequest): string =>
  rejected === undefined ? key : `${key} ${createHash('sha256').update(rejected.token.reveal()).digest('base64url')}`

/** When an entry leaves the cache (ms since the epoch): before its credential expires, by a margin that suits its life. */
const cachedUntil = ({ expiresAt }: Credential, now: number): number => {
  const life = expiresAt - now
  return expiresAt - Math.min(MARGIN_MS, Math.max(life / 10, Math.min(MIN_LIFE_MS, life / 2)))
}

const fromCache = ({ credential, since }: CachedCredential, credentialKey: string | undefined): Obtained => ({
  credential,
  cached: true,
  obtainedAt: since,
  ...(credentialKey === undefined || credential.checkout !== undefined ? {} : { credentialKey }),
})

/** Whether a credential in the cache is handed out as it is: not where its grant or the holders of its lease matter. */
const isByKeyAlone = ({ downstream: { credential } }: CredentialRequest): boolean =>
  credential !== 'oauth_grant' && kinds[credential].leased !== true

/** The entry of a new credential: what a revocation, a purge and another node need to know of it. */
const entryOf = (
  request: CredentialRequest,
  credential: Credential,
  { since, known }: { readonly since: number; readonly known: number },
): CachedCredential => ({
  credential,
  tenant: request.principal.tenant,
  user: request.principal.kind === 'user' ? request.principal.user : undefined,
  server: request.server.server,
  downstreams: downstreamsOf(request).map(({ downstream }) => downstream),
  provider: providerOf(request.downstream),
  // Its own id is the first: a revocation of this very token finds it.
  tokens: [...(credential.tokenId === undefined ? [] : [credential.tokenId]), ...request.ancestors],
  since,
  known,
})

class Obtaining {
  readonly #options: ObtainOptions
  readonly #underWay = new Map<string, Promise<Fetched>>()
  /** When a credential was renewed because its service refused it, by its key. */
  readonly #renewals = createLru<string, number>({ max: MAX_RENEWALS })

  constructor(options: ObtainOptions) {
    this.#options = options
  }

  async obtain(given: CredentialRequest, generation: number): Promise<Obtained> {
    const obtained = await this.#obtainOnce(given, generation)
    // The copy of the secret may be older than what the backend has.
    return isAbout(given.rejected, obtained.credential.token) && this.#forgetSecret(given)
      ? this.#obtainOnce(given, generation)
      : obtained
  }

  /**
   * Has a secret that its service refuses read anew from its backend.
   * @returns false where nothing else would be read
   */
  #forgetSecret({ downstream, principal: { tenant } }: CredentialRequest): boolean {
    if (!('secret' in downstream) || downstream.backend === EMBEDDED_BACKEND) return false
    const { clock, forgetSecret } = this.#options
    const { backend, secret } = downstream
    const key = JSON.stringify([tenant, backend, secret])
    if (judgeRejection(this.#renewals.get(key), clock.now()) !== 'renew') return false
    this.#renewals.set(key, clock.now())
    forgetSecret({ tenant, backend, secret })
    return true
  }

  async #obtainOnce(given: CredentialRequest, generation: number): Promise<Obtained> {
    const { cache, versionsOf, isVoid } = this.#options
    const versions = versionsOf(given.downstream, given.principal.tenant)
    const request = versions === undefined ? given : { ...given, secretVersions: await versions }
    const key = credentialKey(request, String(generation))
    const hit = request.downstream.credential === 'oauth_grant' ? await this.#withGrant(key) : cache.get(key)
    if (hit === undefined) return this.#fetchOnce(key, request, undefined)
    if (isVoid(hit)) {
      cache.delete(key)
      return this.#fetchOnce(key, request, undefined)
    }
    const dropped = await this.#dropRejected(key, request, hit)
    if (dropped === undefined) return fromCache(hit, versions === undefined && isByKeyAlone(request) ? key : undefined)
    return this.#fetchOnce(key, request, dropped)
  }

  async #isGone({ credential }: CachedCredential): Promise<boolean> {
    return credential.grant !== undefined && !(await this.#options.hasGrant(credential.grant))
  }

  /** The cached entry, if the grant that it came from still exists. */
  async #withGrant(key: string): Promise<CachedCredential | undefined> {
    const { cache } = this.#options
    const found = cache.get(key)
    if (found !== undefined && (await this.#isGone(found))) cache.delete(key)
    // It may have been dropped or renewed in the meantime.
    return cache.get(key)
  }

  /** Fetches, or joins the request that fetches the same. @param dropped why the cached credential was dropped */
  async #fetchOnce(key: string, request: CredentialRequest, dropped: 'renew' | 'end' | undefined): Promise<Obtained> {
    const { clock, lastRevocation } = this.#options
    const workKey = workKeyOf(key, request)
    let pending = this.#underWay.get(workKey)
    if (pending === undefined) {
      const wish =
        dropped === undefined
          ? request
          : { ...request, rejected: { ...request.rejected!, handed: true, renewed: dropped === 'end' } }
      pending = this.#fetch(key, wish, { since: clock.now(), known: lastRevocation() }).finally(() => {
        this.#underWay.delete(workKey)
      })
      this.#underWay.set(workKey, pending)
    }
    return { ...(await pending), cached: false }
  }

  /** From another node, else from the connector, into the cache. */
  async #fetch(
    key: string,
    request: CredentialRequest,
    began: { readonly since: number; readonly known: number },
  ): Promise<Fetched> {
    const { shared, connectors, clock, cache, logger } = this.#options
    const sharedKey = shared?.keyOf(request)
    const known = await this.#fromOtherNode(key, request, sharedKey)
    if (known !== undefined) return { credential: known.credential, obtainedAt: known.since }
    const credential = await connectors[request.downstream.credential].obtain(request)
    if (credential.volatile === true) return { credential, obtainedAt: began.since }
    const entry = entryOf(request, credential, began)
    const until = cachedUntil(credential, clock.now())
    cache.set(key, entry, until)
    // Requests do not wait until it is shared.
    if (sharedKey !== undefined)
      shared?.set(sharedKey, entry, until).catch((error: unknown) => {
        logger.warn({ err: error }, 'a credential could not be shared')
      })
    return { credential, obtainedAt: began.since }
  }

  /** What another node has fetched, unless it is void. It is as old as it was there. */
  async #fromOtherNode(
    key: string,
    request: CredentialRequest,
    sharedKey: string | undefined,
  ): Promise<CachedCredential | undefined> {
    if (sharedKey === undefined) return undefined
    const { shared, isVoid, cache } = this.#options
    const found = await shared?.get(request.principal.tenant, sharedKey)
    if (
      found === undefined ||
      isVoid(found.entry) ||
      (request.downstream.credential === 'oauth_grant' && (await this.#isGone(found.entry)))
    )
      return undefined
    // The other node does not know of the refusal yet.
    if (isAbout(request.rejected, found.entry.credential.token)) {
      await shared?.remove(sharedKey)
      return undefined
    }
    cache.set(key, found.entry, found.expiresAt)
    return found.entry
  }

  /**
   * Drops a credential that its service refuses, wherever this server has it for this principal. A grant judges a fresh one
   * that is refused as well; of every other kind a fresh one stays.
   * @returns why it was dropped; undefined where it stays
   */
  async #dropRejected(
    key: string,
    { rejected, downstream }: CredentialRequest,
    hit: CachedCredential,
  ): Promise<'renew' | 'end' | undefined> {
    if (!isAbout(rejected, hit.credential.token)) return undefined
    const { clock, cache, endLease } = this.#options
    const judgement = judgeRejection(this.#renewals.get(key), clock.now())
    if (judgement === 'keep' || (judgement === 'end' && downstream.credential !== 'oauth_grant')) return undefined
    if (judgement === 'renew') this.#renewals.set(key, clock.now())
    // Before it is dropped: a concurrent request would find the lease in the store and keep it again.
    const { grant } = hit.credential
    if (kinds[downstream.credential].leased === true && grant !== undefined) await endLease(grant)
    cache.purge(
      ({ tenant, user, server, credential }) =>
        tenant === hit.tenant && user === hit.user && server === hit.server && isAbout(rejected, credential.token),
    )
    return judgement
  }
}

/** The credentials of the cache that can be found by their key alone. */
export interface Recall {
  /** @param credentialKey of an `Obtained` of the same configuration */
  find(credentialKey: string): Obtained | undefined
}

export const createRecall = ({ cache, isVoid }: Pick<ObtainOptions, 'cache' | 'isVoid'>): Recall => ({
  find(credentialKey) {
    const hit = cache.get(credentialKey)
    if (hit === undefined || isVoid(hit)) return undefined
    const obtained = fromCache(hit, credentialKey)
    return obtained.credentialKey === undefined ? undefined : obtained
  },
})

/** Obtains a credential for a request under the configuration of a generation. @throws DeputyError those of the connector */
export type Obtain = (request: CredentialRequest, generation: number) => Promise<Obtained>

/**
 * The credential out of the cache, else from the connector of its kind. Requests for one key share one call of the
 * connector, and a caller that goes away does not end it.
 */
export const createObtain = (options: ObtainOptions): Obtain => {
  const obtaining = new Obtaining(options)
  return (request, generation) => obtaining.obtain(request, generation)
}
