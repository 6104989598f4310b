import { createHash, createPrivateKey, X509Certificate, type KeyObject, type webcrypto } from 'node:crypto'
import { importJWK, importPKCS8, type JWK } from 'jose'
import * as openid from 'openid-client'
import type { OAuthClient, Provider, SecretReference } from '#config'
import { refuse } from '#errors'
import type { Secret } from '#foundation/crypto'
import type { ClientCertificate } from '#foundation/outbound'

/** A private key, ready to sign with, under the name that its owner gave it. */
export interface SigningKey {
  readonly key: webcrypto.CryptoKey
  readonly algorithm: string
  readonly kid: string | undefined
}

const CURVES: Readonly<Record<string, string>> = { 'P-256': 'ES256', 'P-384': 'ES384', 'P-521': 'ES512' }

const algorithmOf = (jwk: JWK): string =>
  jwk.alg ?? (jwk.kty === 'RSA' ? 'RS256' : jwk.kty === 'EC' ? (CURVES[jwk.crv ?? ''] ?? '') : 'EdDSA')

/** @param text a JWK (RFC 7517), or PEM of an RSA key (PKCS #8 or PKCS #1). @throws Error when it is neither */
export const readSigningKey = async (text: Secret): Promise<SigningKey> => {
  const value = text.reveal().trim()
  if (!value.startsWith('{'))
    return {
      key: await importPKCS8(createPrivateKey(value).export({ type: 'pkcs8', format: 'pem' }).toString(), 'RS256', {
        extractable: false,
      }),
      algorithm: 'RS256',
      kid: undefined,
    }
  const jwk = JSON.parse(value) as JWK
  const algorithm = algorithmOf(jwk)
  const key = await importJWK({ ...jwk, alg: algorithm }, algorithm, { extractable: false })
  if (key instanceof Uint8Array) throw new Error('a symmetric key signs nothing here')
  return { key, algorithm, kid: jwk.kid }
}

/** NIST SP 800-131A: a shorter one signs nothing that lasts. */
const MIN_RSA_BITS = 2048

/** The key for signatures that no JWS is, such as those of XML. @param text as `readSigningKey` takes it. @returns undefined where it is no RSA key of at least 2048 bits */
export const readRsaKey = (text: Secret): KeyObject | undefined => {
  const value = text.reveal().trim()
  try {
    const key = value.startsWith('{')
      ? createPrivateKey({ key: JSON.parse(value) as JWK, format: 'jwk' })
      : createPrivateKey(value)
    return key.asymmetricKeyType === 'rsa' && (key.asymmetricKeyDetails?.modulusLength ?? 0) >= MIN_RSA_BITS
      ? key
      : undefined
  } catch {
    return undefined
  }
}

/** RFC 7515 section 4.1.8. */
const thumbprintOf = (certificate: Secret): string =>
  createHash('sha256').update(new X509Certificate(certificate.reveal()).raw).digest('base64url')

interface AuthenticationOptions {
  readonly provider: Provider
  readonly server: openid.ServerMetadata
  readonly client: OAuthClient
  readonly resolve: (reference: SecretReference) => Promise<Secret>
  /** Signs a client assertion by Deputy's own keys, for a client whose document Deputy publishes. */
  readonly assertion?: ((audience: string) => string) | undefined
}

interface Authentication {
  readonly authentication: openid.ClientAuth
  readonly certificate?: ClientCertificate
}

/**
 * How Deputy's client proves itself at a provider (RFC 6749 section 2.3, RFC 7523 section 2.2, RFC 8705 section 2).
 * @throws DeputyError `provider_refused` when the client's file lacks a secret or key that this needs, those of secrets
 */
export const authenticate = async (options: AuthenticationOptions): Promise<Authentication> => {
  const { provider, client } = options
  switch (provider.client_authentication) {
    case 'none':
      return { authentication: openid.None() }
    // A public client has no secret, even where other clients of this provider have one.
    case 'client_secret_basic':
      return {
        authentication:
          client.client_secret === undefined
            ? openid.None()
            : openid.ClientSecretBasic((await needed(options, 'client_secret')).reveal()),
      }
    case 'client_secret_post':
      return {
        authentication:
          client.client_secret === undefined
            ? openid.None()
            : openid.ClientSecretPost((await needed(options, 'client_secret')).reveal()),
      }
    // https://docs.stripe.com/stripe-apps/api-authentication/oauth
    case 'secret_as_user': {
      const secret = await needed(options, 'client_secret')
      return {
        authentication: (_server, _client, _body, headers) => {
          headers.set('authorization', `Basic ${Buffer.from(`${secret.reveal()}:`).toString('base64')}`)
        },
      }
    }
    case 'tls_client_auth':
      return {
        authentication: openid.TlsClientAuth(),
        certificate: {
          certificate: (await needed(options, 'certificate')).reveal(),
          key: await needed(options, 'private_key'),
        },
      }
    case 'private_key_jwt':
      return {
        authentication:
          options.assertion === undefined
            ? await signedByClientKey(options)
            : signedByDeputy(options, options.assertion),
      }
  }
}

/** @throws DeputyError `provider_refused` where the client's file does not name it */
const needed = async (
  { provider, client, resolve }: AuthenticationOptions,
  name: 'client_secret' | 'private_key' | 'certificate',
): Promise<Secret> => {
  const reference = client[name]
  if (reference === undefined)
    throw refuse('provider_refused', {
      provider: provider.provider,
      problem: `the client ${client.client_id} has no ${name}, which ${provider.client_authentication} needs`,
    })
  return resolve(reference)
}

const signedByDeputy =
  ({ provider, server }: AuthenticationOptions, assertion: (audience: string) => string): openid.ClientAuth =>
  (_server, { client_id: clientId }, body) => {
    const audience = provider.client_assertion_audience === 'token_endpoint' ? server.token_endpoint! : server.issuer
    body.set('client_id', clientId)
    body.set('client_assertion_type', 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer')
    body.set('client_assertion', assertion(audience))
  }

const signedByClientKey = async (options: AuthenticationOptions): Promise<openid.ClientAuth> => {
  const { provider, server, client } = options
  let signing: SigningKey
  try {
    signing = await readSigningKey(await needed(options, 'private_key'))
  } catch (error) {
    if (error instanceof Error && error.name === 'DeputyError') throw error
    throw refuse('provider_refused', {
      provider: provider.provider,
      problem: `the private key of the client ${client.client_id} is neither a JWK nor PEM`,
    })
  }
  const thumbprint = client.certificate === undefined ? undefined : thumbprintOf(await needed(options, 'certificate'))
  return openid.PrivateKeyJwt(
    { key: signing.key, ...(signing.kid === undefined ? {} : { kid: signing.kid }) },
    {
      [openid.modifyAssertion](header, payload) {
        if (thumbprint !== undefined) header['x5t#S256'] = thumbprint
        if (provider.client_assertion_audience === 'token_endpoint') payload['aud'] = server.token_endpoint
      },
    },
  )
}
