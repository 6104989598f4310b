import { cacheKey, type Cache } from '../cache/cache.ts'
import type { Clock } from '../clock.ts'
import type { CredentialKind } from '../config/downstream.ts'
import type { Connector, Credential, CredentialRequest } from '../connector/connector.ts'

/** A cached credential with what it relies on, so that a revocation finds it. */
export interface CachedCredential {
  readonly credential: Credential
  readonly tenant: string
  readonly user: string | undefined
  readonly server: string
  readonly downstream: string
  readonly provider: string | undefined
  readonly tokens: readonly string[]
  /** When it began to be obtained (ms since the epoch): what was revoked later covers it. */
  readonly since: number
}

export type Connectors = Readonly<Record<CredentialKind, Connector>>

/** A credential whose end is nearer than this is fetched anew (ms): it must outlast the call that it is for. */
const MARGIN = 30_000

/**
 * Every fact that decides what a credential is (threat 24). What was minted from one subject token is never given
 * for another: it may not outlive it, and falls with it.
 */
export const credentialKey = (request: CredentialRequest, generation: number): string => {
  const { principal, server, downstream } = request
  return cacheKey(
    principal.tenant, principal.kind, principal.kind === 'user' ? principal.user : '', server.server,
    downstream.downstream, downstream.credential, ...request.audiences, String(request.scopes.length), ...request.scopes,
    String(generation), ...(downstream.credential === 'minted' ? request.ancestors : []),
  )
}

/** A credential, and whether it was at hand. */
export interface Obtained { readonly credential: Credential; readonly cached: boolean; readonly obtainedAt: number }

/**
 * The credential out of the cache, else from the connector of its kind. Requests for one key share one call of the
 * connector, and the caller's going away does not end it.
 */
export const createObtain = (options: {
  cache: Cache<CachedCredential>
  connectors: Connectors
  clock: Clock
  /** Whether a revocation covers the entry: one that was being fetched while the cache was emptied must not come back. */
  isVoid: (entry: CachedCredential) => boolean
}) => {
  const underWay = new Map<string, { promise: Promise<Credential>; startedAt: number }>()

  const fetchAndKeep = async (key: string, request: CredentialRequest, startedAt: number): Promise<Credential> => {
    const { principal, server, downstream } = request
    const credential = await options.connectors[downstream.credential].obtain(request)
    const life = credential.expiresAt - options.clock.now()
    options.cache.set(key, {
      credential, tenant: principal.tenant, user: principal.kind === 'user' ? principal.user : undefined, server: server.server,
      downstream: downstream.downstream, provider: downstream.credential === 'oauth_grant' ? downstream.provider : undefined,
      tokens: request.ancestors, since: startedAt,
    }, credential.expiresAt - Math.min(MARGIN, life / 10))
    return credential
  }

  return async (request: CredentialRequest, generation: number): Promise<Obtained> => {
    const key = credentialKey(request, generation)
    const hit = options.cache.get(key)
    if (hit !== undefined) {
      if (!options.isVoid(hit)) return { credential: hit.credential, cached: true, obtainedAt: hit.since }
      options.cache.delete(key)
    }
    let pending = underWay.get(key)
    if (pending === undefined) {
      const startedAt = options.clock.now()
      pending = { startedAt, promise: fetchAndKeep(key, request, startedAt).finally(() => { underWay.delete(key) }) }
      underWay.set(key, pending)
    }
    return { credential: await pending.promise, cached: false, obtainedAt: pending.startedAt }
  }
}
