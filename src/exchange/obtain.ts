import type { Logger } from '../observe/logger.ts'
import type { Cache } from '../cache/cache.ts'
import type { Clock } from '../clock.ts'
import { credentialKey, type CachedCredential } from './cached-credential.ts'
import type { SharedCredentials } from './shared-credentials.ts'
import type { Connectors, Credential, CredentialRequest } from '../connector/connector.ts'
import { providerOf } from '../connector/kinds.ts'

/** A credential whose end is nearer than this is fetched anew (ms): it must outlast the call that it is for. */
const MARGIN = 30_000

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
  logger: Logger
}) => {
  const underWay = new Map<string, Promise<Omit<Obtained, 'cached'>>>()

  /** What another node has fetched, unless it is void. It is as old as it was there. */
  const fromOthers = async (
    key: string,
    request: CredentialRequest,
    sharedKey: string | undefined,
  ): Promise<CachedCredential | undefined> => {
    if (sharedKey === undefined) return undefined
    const found = await options.shared?.get(request.principal.tenant, sharedKey)
    if (found === undefined || options.isVoid(found.entry)) return undefined
    options.cache.set(key, found.entry, found.expiresAt)
    return found.entry
  }

  const fetchAndKeep = async (
    key: string,
    request: CredentialRequest,
    startedAt: number,
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
      downstream: downstream.downstream,
      provider: providerOf(downstream),
      tokens: request.ancestors,
      since: startedAt,
    }
    if (credential.volatile === true) return { credential, obtainedAt: startedAt }
    const keptUntil = credential.expiresAt - Math.min(MARGIN, life / 10)
    options.cache.set(key, entry, keptUntil)
    // Nobody waits until it is shared.
    if (sharedKey !== undefined)
      options.shared?.set(sharedKey, entry, keptUntil).catch((error: unknown) => {
        options.logger.warn({ err: error }, 'a credential could not be shared')
      })
    return { credential, obtainedAt: startedAt }
  }

  return async (request: CredentialRequest, generation: number): Promise<Obtained> => {
    const key = credentialKey(request, String(generation))
    const hit = options.cache.get(key)
    if (hit !== undefined) {
      if (!options.isVoid(hit)) return { credential: hit.credential, cached: true, obtainedAt: hit.since }
      options.cache.delete(key)
    }
    let pending = underWay.get(key)
    if (pending === undefined) {
      pending = fetchAndKeep(key, request, options.clock.now()).finally(() => {
        underWay.delete(key)
      })
      underWay.set(key, pending)
    }
    return { ...(await pending), cached: false }
  }
}
