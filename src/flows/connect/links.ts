import { createLru } from '#foundation/lru'
import type { Clock, Random } from '#clock'
import type { CurrentSnapshot } from '#config'
import type { CredentialRequest } from '#credentials/connector'
import { refuse } from '#errors'
import { cacheKey } from '#foundation/cache'
import type { Envelope } from '#foundation/crypto'
import type { AttemptStore } from '#foundation/store'
import { createAttempts, LIFETIME, type ConnectRequest } from './attempt.ts'
import { createLoginLimit } from './login-limit.ts'
import { tenantInForce } from './parties.ts'

/** The links to the connect pages. They exist before the pages do: a connector answers with one where a user has to connect. */
export interface ConnectLinks {
  /** The link on which the user can give a server these scopes. The same wish gets the same link for a while. @param claims a claims challenge of the service */
  connectUrl(request: CredentialRequest, scopes: readonly string[], claims?: string): Promise<string>
  /** The link on which the Unix user with this uid signs in. @throws DeputyError `connect_invalid` when the tenant has no sign-in, `rate_limited` */
  startLogin(request: { tenant: string; uid: number }): Promise<{ url: string }>
  /** A link was used: each wish gets a new one from now on. */
  used(): void
}

export const createConnectLinks = (deps: {
  readonly snapshot: CurrentSnapshot
  readonly store: AttemptStore
  readonly envelope: Envelope
  readonly clock: Clock
  readonly random: Random
  /** Public URL of the pages. */
  readonly baseUrl: () => string
  readonly newId: () => string
}): ConnectLinks => {
  const attempts = createAttempts(deps)
  const links = createLru<string, string>({ max: 10_000, ttl: LIFETIME / 2 })
  const admitLogin = createLoginLimit()
  return {
    async connectUrl({ principal, server, downstream, correlationId }, scopes, claims) {
      const user = principal.kind === 'user' ? principal.user : ''
      const key = cacheKey(principal.tenant, user, server.server, downstream.downstream, claims ?? '', ...scopes)
      const known = links.get(key)
      if (known !== undefined) return known
      const wish: ConnectRequest = {
        tenant: principal.tenant,
        user,
        server: server.server,
        downstream: downstream.downstream,
        scopes: [...scopes],
        correlationId,
        ...(claims === undefined ? {} : { claims }),
      }
      const url = `${deps.baseUrl()}/connect/${await attempts.begin('connect', principal.tenant, wish)}`
      links.set(key, url)
      return url
    },
    async startLogin({ tenant, uid }) {
      if (tenantInForce(deps.snapshot(), tenant).sign_in === undefined)
        throw refuse('connect_invalid', { problem: `the tenant ${tenant} has no sign-in` })
      admitLogin(uid)
      const step = { tenant, uid, correlationId: deps.newId() }
      return { url: `${deps.baseUrl()}/login/${await attempts.begin('login', tenant, step)}` }
    },
    used() {
      links.clear()
    },
  }
}
