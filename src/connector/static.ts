import type { Clock } from '../clock.ts'
import type { DownstreamOf } from '../config/downstream.ts'
import type { ReadSecret } from '../secret/reference.ts'
import type { RotatedSecret } from '../store/store.ts'
import { SECRET_TOKEN_TYPE, type Connector } from './connector.ts'

/** How a secret rotates, for those who hand it out. */
export interface RotationTerms {
  /** How long it still works after another has taken its place (ms). */
  readonly grace: number
  /** Whether there is such a time at all, and whether it is over once everybody has moved. */
  readonly keepsOld: boolean
  readonly endsEarly: boolean
}

/** How long a static secret may be kept by who got it before it is asked for again, ms. */
const DEFAULT_LIFETIME = 300_000

/**
 * `static`: a secret of the tenant in a backend of secrets, such as an API key. It cannot be narrowed and does not
 * expire by itself; `expires_in` says how long the caller may keep it. The tenant's own secret is read, never
 * another's: the tenant is part of the key under which it is sealed.
 */
export const createStaticConnector = (options: {
  read: ReadSecret
  /** What a policy says of it; undefined for a secret that does not rotate. */
  termsOf: (secret: RotatedSecret) => RotationTerms | undefined
  clock: Clock
}): Connector => ({
  kind: 'static',
  async obtain(request) {
    const downstream = request.downstream as DownstreamOf<'static'>
    const secret = { tenant: request.principal.tenant, backend: downstream.backend, secret: downstream.secret }
    const { value, version, readAt = options.clock.now() } = await options.read(secret)
    const terms = options.termsOf(secret)
    return {
      // Whoever has it comes back before it ends.
      ...(terms === undefined ? {} : { volatile: true }), ...(terms?.keepsOld === true ? { held: { secret, version, mustBeCurrent: terms.endsEarly } } : {}),
      token: value, issuedTokenType: SECRET_TOKEN_TYPE, tokenType: 'N_A', scopes: request.scopes, wider: false,
      // Since it was read another one may have taken its place.
      expiresAt: Math.min(options.clock.now() + (downstream.lifetime ?? DEFAULT_LIFETIME), readAt + (terms?.grace ?? Infinity), request.notAfter),
      story: `The secret ${downstream.secret} (version ${version}) was read from the backend ${downstream.backend}.`,
    }
  },
})
