import { z } from 'zod'
import type { Clock } from '#clock'
import type { KeptDownstream } from '#config'
import type { ReadSecret } from '#credentials/secret'
import { refuse } from '#errors'
import { Secret } from '#foundation/crypto'
import type { RotatedSecret } from '#foundation/store'
import { SECRET_TOKEN_TYPE } from '#oauth'
import type { Connector } from './connector.ts'

/** How a secret rotates, for connectors that hand it out. */
export interface RotationTerms {
  /** How long the old version works after its replacement (ms). */
  readonly grace: number
  /** Whether the target accepts both versions during that time, and whether the time ends once every process has the new one. */
  readonly supportsDualSecrets: boolean
  readonly endsEarly: boolean
}

/** How long a server may use a static secret before it asks again (ms). */
const DEFAULT_LIFETIME_MS = 300_000

/** RFC 9110 section 5.5: what a header's value, which is where keys go, can hold. */
const KEY = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/
/** RFC 7617 section 2: no colon in the user, and no control characters. */
const loginSchema = z.object({
  username: z.string().regex(/^[^:\p{Cc}]+$/u),
  password: z.string().regex(/^[^\p{Cc}]*$/u),
})

/** What a secret of each kind has to be: the value as it is handed out, or what is wrong with it. */
const FORMS: Readonly<Record<KeptDownstream['credential'], (value: Secret) => Secret | string>> = {
  static: (value) => value,
  api_key: (value) => (KEY.test(value.reveal()) ? value : 'it is no key, one line of printable ASCII'),
  basic(value) {
    let json: unknown
    try {
      json = JSON.parse(value.reveal())
    } catch {
      json = undefined
    }
    const login = loginSchema.safeParse(json)
    return login.success
      ? new Secret(JSON.stringify(login.data))
      : 'it is no login, JSON with username (without colon) and password'
  },
}

/**
 * `static`: a secret of the tenant in a backend of secrets, as it is; `api_key` and `basic`: one that has to be a key, or a login. It
 * cannot be narrowed and does not expire by itself; `expires_in` says how long the caller may keep it. The tenant's own secret is read,
 * never another's: the tenant is part of the key under which it is sealed.
 */
export const createStaticConnector = (
  kind: KeptDownstream['credential'],
  options: {
    read: ReadSecret
    /** What a policy says of it; undefined for a secret that does not rotate. */
    termsOf: (secret: RotatedSecret) => RotationTerms | undefined
    clock: Clock
  },
): Connector => ({
  kind,
  async obtain(request) {
    const downstream = request.downstream as KeptDownstream
    const secret = { tenant: request.principal.tenant, backend: downstream.backend, secret: downstream.secret }
    const { value, version, readAt = options.clock.now() } = await options.read(secret)
    const token = FORMS[kind](value)
    if (typeof token === 'string')
      throw refuse('secret_malformed', {
        tenant: secret.tenant,
        secret: secret.secret,
        downstream: downstream.downstream,
        problem: token,
      })
    const terms = options.termsOf(secret)
    return {
      // The server asks again before the version ends.
      ...(terms === undefined ? {} : { volatile: true }),
      ...(terms?.supportsDualSecrets === true ? { checkout: { secret, version, mustBeCurrent: terms.endsEarly } } : {}),
      token,
      issuedTokenType: SECRET_TOKEN_TYPE,
      tokenType: 'N_A',
      scopes: request.scopes,
      overScoped: false,
      // Since it was read another one may have taken its place.
      expiresAt: Math.min(
        options.clock.now() + (downstream.lifetime ?? DEFAULT_LIFETIME_MS),
        readAt + (terms?.grace ?? Infinity),
        request.notAfter,
      ),
      auditNote: `The secret ${downstream.secret} (version ${version}) was read from the backend ${downstream.backend}.`,
    }
  },
})
