import type { Clock } from '../clock.ts'
import type { DownstreamOf } from '../config/downstream.ts'
import type { SecretBackend } from '../secret/backend.ts'
import { SECRET_TOKEN_TYPE, type Connector } from './connector.ts'

/** How long a static secret may be kept by who got it before it is asked for again, ms. */
const DEFAULT_LIFETIME = 300_000

/**
 * `static`: a secret that the tenant keeps with Deputy, such as an API key. It cannot be narrowed and does not
 * expire by itself; `expires_in` says how long the caller may keep it. The tenant's own secret is read, never
 * another's: the tenant is part of the key under which it is sealed.
 */
export const createStaticConnector = (options: {
  backend: SecretBackend
  /** How long a secret still works after another has taken its place (ms); undefined for one that does not rotate. */
  graceOf: (tenant: string, name: string) => number | undefined
  clock: Clock
}): Connector => ({
  kind: 'static',
  async obtain(request) {
    const downstream = request.downstream as DownstreamOf<'static'>
    const { value, version } = await options.backend.read(request.principal.tenant, downstream.secret)
    const grace = options.graceOf(request.principal.tenant, downstream.secret)
    return {
      // Whoever has it comes back before it ends.
      ...(grace === undefined ? {} : { volatile: true }),
      token: value, issuedTokenType: SECRET_TOKEN_TYPE, tokenType: 'N_A', scopes: request.scopes, wider: false,
      expiresAt: Math.min(options.clock.now() + Math.min(downstream.lifetime ?? DEFAULT_LIFETIME, grace ?? Infinity), request.notAfter),
      story: `The secret ${downstream.secret} (version ${version}) was read from the embedded backend.`,
    }
  },
})
