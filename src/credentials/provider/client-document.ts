import { type Clock, type Random, toSeconds } from '#clock'
import { callbackUrlOf, clientsOf, pagesUrlOf, type ProvidedDownstream, type Snapshot } from '#config'
import { randomText } from '#foundation/crypto'
import { type SigningKeys, signJwt } from '#foundation/keys'

const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer'

/** What a client asks for to obtain a kind of credential. */
const GRANTS: Readonly<Record<ProvidedDownstream['credential'], readonly string[]>> = {
  oauth_grant: ['authorization_code', 'refresh_token'],
  client_credentials: ['client_credentials'],
  token_exchange: ['urn:ietf:params:oauth:grant-type:token-exchange'],
  entra_obo: [JWT_BEARER],
  jwt_bearer: [JWT_BEARER],
  saml_bearer: ['urn:ietf:params:oauth:grant-type:saml2-bearer'],
  id_jag: [JWT_BEARER],
}

/**
 * What Deputy says about one of its clients, at the address that is the client's id (draft-ietf-oauth-client-id-metadata-document section 4, members of RFC 7591 section 2).
 * Nothing in it is secret, and nothing says who uses the client.
 * @returns undefined where no downstream has such a client
 */
export const clientDocument = ({ settings, downstreams, providers }: Snapshot, name: string): object | undefined => {
  const pagesUrl = pagesUrlOf(settings)
  const id = `${pagesUrl}/clients/${name}`
  const uses = [...downstreams.values()].flatMap((downstream) =>
    'client' in downstream && clientsOf(downstream).some(({ client_id: each }) => each === id) ? [downstream] : [],
  )
  const of = uses.flatMap((downstream) => providers.get(downstream.provider) ?? [])
  const [provider] = of
  if (provider === undefined) return undefined
  const isOfUsers = uses.some(({ credential }) => credential === 'oauth_grant')
  return {
    client_id: id,
    client_name: 'Deputy',
    redirect_uris: isOfUsers ? [...new Set(of.map((each) => callbackUrlOf(pagesUrl, each)))] : [],
    response_types: isOfUsers ? ['code'] : [],
    grant_types: [
      ...new Set(
        uses.flatMap((each) => [
          ...GRANTS[each.credential],
          ...(each.credential === 'token_exchange' && each.actor === 'client' ? ['client_credentials'] : []),
        ]),
      ),
    ].sort(),
    token_endpoint_auth_method: provider.client_authentication,
    ...(provider.client_authentication === 'private_key_jwt'
      ? { token_endpoint_auth_signing_alg: 'ES256', jwks_uri: `${id}/jwks.json` }
      : {}),
    ...(of.every(({ dpop }) => dpop === 'required') ? { dpop_bound_access_tokens: true } : {}),
  }
}

/** How long an assertion is good for (s). */
const LIFETIME_S = 60

/** A client assertion (RFC 7523 section 3) by keys of Deputy's that sign nothing else, and that the client's document leads to. */
export const createClientAssertions =
  (deps: { readonly keys: SigningKeys; readonly clock: Clock; readonly random: Random }) =>
  (clientId: string, audience: string): string => {
    const now = toSeconds(deps.clock.now())
    return signJwt(
      deps.keys,
      { typ: 'client-authentication+jwt' },
      {
        iss: clientId,
        sub: clientId,
        aud: audience,
        iat: now,
        exp: now + LIFETIME_S,
        jti: randomText(deps.random, 16),
      },
      'client',
    )
  }
export type AssertClient = ReturnType<typeof createClientAssertions>
