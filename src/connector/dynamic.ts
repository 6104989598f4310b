import type { Clock } from '../clock.ts'
import type { DownstreamOf } from '../config/downstream.ts'
import { refuse } from '../errors.ts'
import type { DynamicSecrets } from '../secret/backend.ts'
import type { Leases } from '../secret/leases.ts'
import { SECRET_TOKEN_TYPE, type Connector } from './connector.ts'

/** A login that is rotated the next moment is not handed out for long (ms): it is read again then. */
const SHORTEST = 1000

/**
 * `dynamic`: a login that a backend makes for this user, or this server, alone, and ends with its lease; or, for a static role,
 * the one that the backend rotates by itself, for as long as it is the right one.
 */
export const createDynamicConnector = (options: { leases: Pick<Leases, 'obtain'>; backendOf: (id: string) => DynamicSecrets | undefined; clock: Clock }): Connector => ({
  kind: 'dynamic',
  async obtain(request) {
    const { backend, role, role_kind: kind, downstream, lifetime = Infinity } = request.downstream as DownstreamOf<'dynamic'>
    const { principal, server } = request
    const common = { issuedTokenType: SECRET_TOKEN_TYPE, tokenType: 'N_A', scopes: request.scopes, wider: false } as const
    const now = options.clock.now()
    if (kind === 'static') {
      const found = options.backendOf(backend)
      if (found === undefined) throw refuse('secret_backend_unavailable', { backend, problem: 'it makes no credentials, or was not named in deputy.yaml when the daemon was started' })
      const { value, remaining } = await found.readStatic(role)
      return { ...common, volatile: true, token: value, expiresAt: Math.min(now + Math.min(Math.max(remaining, SHORTEST), lifetime), request.notAfter), story: `The login of the static role ${role} was read from the backend ${backend}.` }
    }
    const { value, lease, expiresAt } = await options.leases.obtain({ tenant: principal.tenant, user: principal.kind === 'user' ? principal.user : null, server: server.server, downstream }, { backend, role })
    return { ...common, token: value, grant: lease, expiresAt: Math.min(expiresAt, now + lifetime, request.notAfter), story: `The backend ${backend} made it for the role ${role}, under the lease ${lease}.` }
  },
})
