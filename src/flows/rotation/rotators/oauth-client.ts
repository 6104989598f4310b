import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import type { RotatorSettingsOf } from '#config'
import { isSameSecret } from '#credentials/secret'
import { Secret } from '#foundation/crypto'
import type { Egress } from '#foundation/outbound'
import type { AskingRotator } from '../rotator.ts'

const registrationSchema = z.looseObject({
  client_id: z.string(),
  client_secret: z.string().min(1),
  registration_access_token: z.string().min(1).optional(),
})
const errorSchema = z.looseObject({ error: z.string() })

/** RFC 7592 section 2.2: what an update must not contain. */
const NOT_SENT = new Set([
  'registration_access_token',
  'registration_client_uri',
  'client_secret_expires_at',
  'client_id_issued_at',
])

/** RFC 6749 section 2.3.1: both parts form-encoded. */
const basic = (id: string, secret: string): string =>
  `Basic ${Buffer.from(`${encodeURIComponent(id)}:${encodeURIComponent(secret)}`).toString('base64')}`

/**
 * The secret of an OAuth client, by client configuration (RFC 7592). The server chooses it, when the client updates its
 * registration, and the old one ends at once; what it has chosen can be read again, so that nothing is lost with an answer.
 */
export const createOAuthClientRotator = (
  how: RotatorSettingsOf<'oauth_client'>,
  deps: {
    token: () => Promise<Secret>
    /** The server has given another registration access token in its place. */
    keepToken: (token: Secret) => Promise<void>
    egress: Egress
  },
): AskingRotator => {
  const ask = async (
    init: { method: 'GET' } | { method: 'PUT'; body: string },
  ): Promise<z.output<typeof registrationSchema>> => {
    const token = await deps.token()
    const response = await deps.egress(how.registration, {
      ...init,
      headers: {
        authorization: `Bearer ${token.reveal()}`,
        accept: 'application/json',
        ...(init.method === 'PUT' ? { 'content-type': 'application/json' } : {}),
      },
    })
    // RFC 7592 section 2.1: 401 also for a client that is gone.
    if (response.status === 401)
      throw new Error(`the client ${how.client} does not exist, or its registration access token is refused`)
    if (!response.ok) throw new Error(`the registration of ${how.client} answered ${response.status}`)
    const parsed = registrationSchema.safeParse(await response.json().catch(() => undefined))
    if (!parsed.success || parsed.data.client_id !== how.client)
      throw new Error(`the registration of ${how.client} is not what RFC 7592 says`)
    const { registration_access_token: given } = parsed.data
    if (given !== undefined && given !== token.reveal()) await deps.keepToken(new Secret(given))
    return parsed.data
  }

  return {
    kind: 'oauth_client',
    target: new URL(how.registration).host,
    supportsDualSecrets: false,
    generatedByTarget: true,
    known: async () => new Secret((await ask({ method: 'GET' })).client_secret),
    async check() {
      await ask({ method: 'GET' })
    },
    async apply(earlier) {
      const registered = await ask({ method: 'GET' })
      const before = new Secret(registered.client_secret)
      // It is not known here yet: it was changed before a kill, or is the first.
      if (!earlier.some((each) => isSameSecret(each, before))) return before
      const update = Object.fromEntries(Object.entries(registered).filter(([name]) => !NOT_SENT.has(name)))
      const updated = await ask({ method: 'PUT', body: JSON.stringify(update) })
      if (isSameSecret(new Secret(updated.client_secret), before))
        throw new Error('the server keeps the secret when a registration is updated')
      return new Secret(updated.client_secret)
    },
    async login(value) {
      // The request has no effect: its refresh token does not exist. RFC 6749 section 5.2 distinguishes a failed client authentication from every other error.
      const form = new URLSearchParams({
        grant_type: 'refresh_token',
        refresh_token: randomUUID(),
        ...(how.authentication === 'client_secret_post'
          ? { client_id: how.client, client_secret: value.reveal() }
          : {}),
      })
      const response = await deps.egress(how.token_endpoint, {
        method: 'POST',
        body: form.toString(),
        headers: {
          'content-type': 'application/x-www-form-urlencoded',
          accept: 'application/json',
          ...(how.authentication === 'client_secret_basic' ? { authorization: basic(how.client, value.reveal()) } : {}),
        },
      })
      const said = errorSchema.safeParse(await response.json().catch(() => undefined))
      if (said.success && said.data.error === 'invalid_client') return 'refused'
      if (said.success && (response.status === 400 || response.status === 403)) return 'works'
      throw new Error(`the token endpoint answered ${response.status}`)
    },
    retire: () => Promise.resolve(),
  }
}
