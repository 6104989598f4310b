import { SignJWT } from 'jose'
import { z } from 'zod'
import { type Clock, type Random, toSeconds } from '#clock'
import type { DownstreamOf } from '#config'
import { type ProviderClients, readSigningKey, type SigningKey } from '#credentials/provider'
import type { ResolveSecret } from '#credentials/secret'
import { refuse } from '#errors'
import { randomText, Secret } from '#foundation/crypto'
import { ACCESS_TOKEN_TYPE } from '#oauth'
import { subjectOf } from './assertion-subject.ts'
import type { Connector, CredentialRequest } from '../connector.ts'
import type { RequestToken } from './token-request.ts'

/** https://cloud.google.com/iam/docs/keys-create-delete: what the key file of a service account holds. */
const accountSchema = z.looseObject({
  type: z.literal('service_account'),
  client_email: z.string(),
  private_key: z.string(),
  private_key_id: z.string().optional(),
})

interface Signer extends SigningKey {
  readonly account: string | undefined
}

const readSigner = async (text: Secret): Promise<Signer> => {
  let json: unknown
  try {
    json = JSON.parse(text.reveal())
  } catch {
    json = undefined
  }
  const account = accountSchema.safeParse(json)
  if (!account.success) return { ...(await readSigningKey(text)), account: undefined }
  return {
    ...(await readSigningKey(new Secret(account.data.private_key))),
    kid: account.data.private_key_id,
    account: account.data.client_email,
  }
}

/**
 * `jwt_bearer`: an assertion that Deputy signs with a key of its own, redeemed for a token (RFC 7523 section 2.1), or used as one.
 * Google's service accounts are a case of both: https://developers.google.com/identity/protocols/oauth2/service-account.
 */
export const createJwtBearerConnector = (deps: {
  readonly requestToken: RequestToken
  readonly clients: ProviderClients
  readonly resolveSecret: ResolveSecret
  readonly clock: Clock
  readonly random: Random
}): Connector => {
  const sign = async (
    request: CredentialRequest,
    tokenEndpoint: string,
    clientId: string,
  ): Promise<{ token: string; expiresAt: number }> => {
    const { assertion, scope_prefix: prefix, downstream } = request.downstream as DownstreamOf<'jwt_bearer'>
    let signer: Signer
    try {
      signer = await readSigner(await deps.resolveSecret(assertion.key, request.principal.tenant))
    } catch (error) {
      if (error instanceof Error && error.name === 'DeputyError') throw error
      throw refuse('provider_refused', {
        provider: downstream,
        problem: 'the key of the assertion is neither a JWK, nor PEM, nor the key file of a service account',
      })
    }
    const issuer = assertion.issuer ?? signer.account ?? clientId
    const subject = assertion.subject === 'none' ? undefined : subjectOf(assertion.subject, issuer, request)
    const now = deps.clock.now()
    const expiresAt = toSeconds(Math.min(now + assertion.lifetime, request.notAfter)) * 1000
    const scopes = request.scopes.map((each) => prefix + each).join(' ')
    const token = await new SignJWT({
      ...(subject === undefined ? {} : { sub: subject }),
      ...(assertion.scope === 'claim' && scopes !== '' ? { scope: scopes } : {}),
    })
      .setProtectedHeader({
        alg: signer.algorithm,
        typ: 'JWT',
        ...(signer.kid === undefined ? {} : { kid: signer.kid }),
      })
      .setIssuer(issuer)
      .setAudience(assertion.audience ?? tokenEndpoint)
      .setIssuedAt(toSeconds(now))
      .setExpirationTime(toSeconds(expiresAt))
      .setJti(randomText(deps.random, 16))
      .sign(signer.key)
    return { token, expiresAt }
  }
  return {
    kind: 'jwt_bearer',
    async obtain(request) {
      const downstream = request.downstream as DownstreamOf<'jwt_bearer'>
      if (downstream.assertion.self_signed) {
        const { clientId, server } = await deps.clients(downstream, request.principal.tenant)
        const { token, expiresAt } = await sign(request, server.token_endpoint ?? '', clientId)
        return {
          token: new Secret(token),
          issuedTokenType: ACCESS_TOKEN_TYPE,
          tokenType: 'Bearer',
          scopes: request.scopes,
          expiresAt,
          overScoped: false,
          auditNote: 'Deputy signed the token with the key of the downstream.',
        }
      }
      return deps.requestToken(request, {
        grantType: 'urn:ietf:params:oauth:grant-type:jwt-bearer',
        operation: 'assertion grant',
        scopeIsSigned: downstream.assertion.scope === 'claim',
        parameters: async ({ clientId, server }) => ({
          assertion: (await sign(request, server.token_endpoint!, clientId)).token,
        }),
      })
    },
  }
}
