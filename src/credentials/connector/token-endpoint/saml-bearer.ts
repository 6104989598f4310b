import { X509Certificate, type KeyObject } from 'node:crypto'
import type { Clock, Random } from '#clock'
import type { DownstreamOf } from '#config'
import { readRsaKey } from '#credentials/provider'
import type { ResolveSecret } from '#credentials/secret'
import { refuse } from '#errors'
import type { Secret } from '#foundation/crypto'
import { subjectOf } from './assertion-subject.ts'
import type { Connector, CredentialRequest } from '../connector.ts'
import type { RequestToken } from './token-request.ts'
import { signSamlAssertion } from './saml-assertion.ts'

/** @returns PEM; undefined where it is none, or one of another key */
const certificateOf = (text: Secret, key: KeyObject): string | undefined => {
  try {
    const certificate = new X509Certificate(text.reveal())
    return certificate.checkPrivateKey(key) ? certificate.toString() : undefined
  } catch {
    return undefined
  }
}

/** `saml_bearer`: a SAML 2.0 assertion that Deputy signs with a key of its own, redeemed for a token (RFC 7522 section 2.1). */
export const createSamlBearerConnector = (deps: {
  readonly requestToken: RequestToken
  readonly resolveSecret: ResolveSecret
  readonly clock: Clock
  readonly random: Random
}): Connector => {
  const sign = async (request: CredentialRequest, tokenEndpoint: string, clientId: string): Promise<string> => {
    const { assertion, downstream } = request.downstream as DownstreamOf<'saml_bearer'>
    const { tenant } = request.principal
    const key = readRsaKey(await deps.resolveSecret(assertion.key, tenant))
    if (key === undefined)
      throw refuse('provider_refused', {
        provider: downstream,
        problem: 'the key of the assertion is no RSA key of at least 2048 bits: put one there, as JWK or PEM',
      })
    const certificate =
      assertion.certificate === undefined
        ? undefined
        : certificateOf(await deps.resolveSecret(assertion.certificate, tenant), key)
    if (certificate === undefined && assertion.certificate !== undefined)
      throw refuse('provider_refused', {
        provider: downstream,
        problem: 'the certificate of the assertion is not that of its key: put that one there, as PEM',
      })
    const issuer = assertion.issuer ?? clientId
    const now = deps.clock.now()
    return signSamlAssertion(
      {
        id: `_${Buffer.from(deps.random.bytes(16)).toString('hex')}`,
        issuer,
        subject: subjectOf(assertion.subject, issuer, request),
        nameIdFormat: assertion.name_id_format,
        recipient: tokenEndpoint,
        audience: assertion.audience ?? tokenEndpoint,
        ...(assertion.authn_context === undefined ? {} : { authnContext: assertion.authn_context }),
        attributes: assertion.attributes,
        issuedAt: now,
        expiresAt: Math.min(now + assertion.lifetime, request.notAfter),
      },
      { key, downstream, ...(certificate === undefined ? {} : { certificate }) },
    )
  }
  return {
    kind: 'saml_bearer',
    obtain: (request) =>
      deps.requestToken(request, {
        grantType: 'urn:ietf:params:oauth:grant-type:saml2-bearer',
        operation: 'SAML assertion grant',
        parameters: async ({ clientId, server }) => ({
          assertion: Buffer.from(await sign(request, server.token_endpoint!, clientId)).toString('base64url'),
        }),
      }),
  }
}
