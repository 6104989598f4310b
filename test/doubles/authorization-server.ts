/**
 * An authorization server for the grants that oidc-provider does not have, strict about each:
 * - client authentication by secret (RFC 6749 section 2.3.1) or assertion (RFC 7523 section 3: `iss` = `sub` = the client, `aud` this server, an end, `jti` once);
 * - token exchange (RFC 8693 section 2.1): a JWT of the issuer that it trusts, `actor_token_type` exactly when there is an actor token, `act` in what it issues then;
 * - on-behalf-of of Microsoft Entra ID (https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-on-behalf-of-flow): the assertion's `aud` is the client,
 *   `requested_token_use=on_behalf_of`, one service's scopes in one request (AADSTS28000);
 * - JWT bearer grant (RFC 7523 section 3): signed by a registered key, `aud` the token endpoint, an end no more than an hour away, `jti` once.
 * - ID-JAG (draft-ietf-oauth-identity-assertion-authz-grant section 4.4.1): `typ`, `aud` this server's issuer, `client_id` the authenticated client, `jti` once; the same key stands for the identity provider.
 * - SAML 2.0 bearer assertions (RFC 7522): test/doubles/saml-bearer.ts; Deputy's client is their issuer.
 * - DPoP (RFC 9449 section 4.3): a proof is for this request and used once, has the nonce that `binding` names, and what is issued is bound to its key.
 * Scopes are those asked for that it knows; what it does not know is `invalid_scope` (RFC 6749 section 5.2).
 */
import { randomUUID } from 'node:crypto'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import {
  calculateJwkThumbprint,
  createLocalJWKSet,
  decodeJwt,
  decodeProtectedHeader,
  EmbeddedJWK,
  importJWK,
  jwtVerify,
  SignJWT,
  type JWK,
  type JWTPayload,
} from 'jose'
import { aKeyPair } from '../support/daemon.ts'
import { aSamlSigner, createSamlGrant, type SamlSigner } from './saml-bearer.ts'
import { answerSpoilt, type SpoiltAnswer } from './spoilt.ts'

/** How it deals with proofs of keys, beside what the standard says. */
export interface Binding {
  nonce?: string
  answers?: 'bearer' | 'another key' | 'no key' | 'bound'
}

/** How real servers differ from the standard: Keycloak writes `typ: JWT`, takes no notice of `resource` and of actor tokens, and answers a refused subject token as it likes. */
export interface Untidiness {
  typ?: string
  /** Over the claims of what is issued; undefined takes one away. */
  claims?: Readonly<Record<string, unknown>>
  /** Answered instead, to everything. */
  refusal?: { readonly status: number; readonly error: string; readonly error_description?: string }
}

export interface AuthorizationServerDouble {
  readonly untidy: Untidiness
  readonly binding: Binding
  /** Claims of the proofs that came. */
  readonly proofs: JWTPayload[]
  readonly url: string
  readonly client: { readonly id: string; readonly secret: string }
  /** Of Deputy's client and of its assertions; the server knows the public parts. */
  readonly clientKey: JWK
  readonly assertionKey: JWK
  readonly samlSigner: SamlSigner
  readonly spoil: SpoiltAnswer[]
  /** Requests that were accepted, as they came. */
  readonly requests: Readonly<Record<string, string>>[]
  /** What it has issued, as claims. */
  readonly issued: JWTPayload[]
  /** A user's token of the issuer that this server trusts. */
  userToken(claims: JWTPayload): Promise<string>
  close(): Promise<void>
}

const SCOPES = ['read', 'write', 'api://orders/read', 'api://orders/write', 'https://graph.example/read']

const isIdJag = (assertion: string | null): boolean => {
  try {
    return decodeProtectedHeader(assertion ?? '').typ === 'oauth-id-jag+jwt'
  } catch {
    return false
  }
}

/** The same for all servers of a test file: an RSA key takes its time. */
const samlSigner = await aSamlSigner()

interface Refusal {
  readonly error: string
  readonly error_description: string
}
const no = (error: string, description: string): Refusal => ({ error, error_description: description })

export const startAuthorizationServer = async (): Promise<AuthorizationServerDouble> => {
  const [own, clientPair, assertionPair] = [aKeyPair(), aKeyPair(), aKeyPair()]
  const client = { id: 'deputy', secret: 'as-client-secret' }
  const userIssuer = 'https://login.example'
  const used = new Set<string>()
  const json = (response: ServerResponse, status: number, body: unknown): void => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  }

  /** @returns what is wrong with it, or nothing */
  const verifyAssertion = async (
    assertion: string,
    jwk: object,
    expected: { issuer?: string; audiences: readonly string[] },
  ): Promise<JWTPayload | string> => {
    try {
      const { payload } = await jwtVerify(assertion, createLocalJWKSet({ keys: [jwk as JWK] }), {
        audience: [...expected.audiences],
        algorithms: ['ES256'],
        requiredClaims: ['exp', 'jti', 'iss'],
        ...(expected.issuer === undefined ? {} : { issuer: expected.issuer }),
      })
      if (used.has(payload.jti!)) return 'the jti was used before'
      if (payload.exp! > Date.now() / 1000 + 3600) return 'the end is too far away'
      used.add(payload.jti!)
      return payload
    } catch (error) {
      return (error as Error).message
    }
  }

  const authenticated = async (form: URLSearchParams, authorization: string | undefined): Promise<boolean> => {
    if (form.has('client_assertion')) {
      if (form.get('client_assertion_type') !== 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer') return false
      const claims = await verifyAssertion(form.get('client_assertion')!, clientPair.jwk, {
        issuer: client.id,
        audiences: [double.url, `${double.url}/token`],
      })
      return typeof claims !== 'string' && claims.sub === client.id
    }
    const [id, secret] =
      authorization?.startsWith('Basic ') === true
        ? Buffer.from(authorization.slice(6), 'base64').toString('utf8').split(':').map(decodeURIComponent)
        : [form.get('client_id'), form.get('client_secret')]
    return id === client.id && secret === client.secret
  }

  const subjectOf = async (token: string | null, audience?: string): Promise<JWTPayload | Refusal> => {
    try {
      return (
        await jwtVerify(token ?? '', await importJWK({ ...own.jwk }, 'ES256'), {
          issuer: userIssuer,
          ...(audience === undefined ? {} : { audience }),
        })
      ).payload
    } catch (error) {
      return no('invalid_request', `the subject token: ${(error as Error).message}`)
    }
  }

  const claimsFor = async (form: URLSearchParams): Promise<JWTPayload | Refusal> => {
    switch (form.get('grant_type')) {
      case 'client_credentials':
        return { sub: client.id }
      case 'urn:ietf:params:oauth:grant-type:token-exchange': {
        if (form.get('subject_token_type') !== 'urn:ietf:params:oauth:token-type:access_token')
          return no('invalid_request', 'subject_token_type')
        if (form.has('actor_token') !== form.has('actor_token_type'))
          return no('invalid_request', 'actor_token and actor_token_type go together')
        const subject = await subjectOf(form.get('subject_token'))
        if ('error' in subject) return subject as unknown as Refusal
        if (!form.has('actor_token')) return { sub: subject.sub! }
        const actor = decodeJwt(form.get('actor_token')!)
        return actor.sub === client.id
          ? { sub: subject.sub!, act: { sub: actor.sub } }
          : no('invalid_request', 'the actor token')
      }
      case 'urn:ietf:params:oauth:grant-type:jwt-bearer': {
        if (form.get('requested_token_use') === 'on_behalf_of') {
          const subject = await subjectOf(form.get('assertion'), client.id)
          if ('error' in subject)
            return no('invalid_grant', 'AADSTS500131: Assertion audience does not match the client')
          const services = new Set(
            (form.get('scope') ?? '').split(' ').map((scope) => scope.slice(0, scope.lastIndexOf('/'))),
          )
          return services.size > 1
            ? no('invalid_scope', 'AADSTS28000: scopes of more than one resource')
            : { sub: subject.sub! }
        }
        if (isIdJag(form.get('assertion'))) {
          const granted = await verifyAssertion(form.get('assertion')!, assertionPair.jwk, { audiences: [double.url] })
          if (typeof granted === 'string') return no('invalid_grant', granted)
          return granted['client_id'] === client.id
            ? { sub: granted.sub!, scope: granted['scope'] ?? '' }
            : no('invalid_grant', 'the assertion is for another client')
        }
        const claims = await verifyAssertion(form.get('assertion') ?? '', assertionPair.jwk, {
          audiences: [`${double.url}/token`],
        })
        return typeof claims === 'string'
          ? no('invalid_grant', claims)
          : { sub: claims.sub ?? claims.iss!, ...(claims['scope'] === undefined ? {} : { scope: claims['scope'] }) }
      }
      case 'urn:ietf:params:oauth:grant-type:saml2-bearer': {
        const redeemed = await redeemSaml(form.get('assertion') ?? '')
        return 'problem' in redeemed ? no('invalid_grant', redeemed.problem) : { sub: redeemed.subject }
      }
      default:
        return no('unsupported_grant_type', String(form.get('grant_type')))
    }
  }

  /** @returns the thumbprint of the key, or what is wrong with the proof */
  const proved = async (proof: string): Promise<string | Refusal> => {
    try {
      const { payload } = await jwtVerify(proof, EmbeddedJWK, {
        typ: 'dpop+jwt',
        algorithms: ['ES256'],
        maxTokenAge: 60,
        requiredClaims: ['jti', 'htm', 'htu'],
      })
      double.proofs.push(payload)
      if (payload['htm'] !== 'POST' || payload['htu'] !== `${double.url}/token` || used.has(payload.jti!))
        return no('invalid_dpop_proof', 'it is for another request')
      used.add(payload.jti!)
      if (double.binding.nonce !== payload['nonce']) return no('use_dpop_nonce', 'the nonce')
      return await calculateJwkThumbprint(decodeProtectedHeader(proof).jwk!)
    } catch (error) {
      return no('invalid_dpop_proof', (error as Error).message)
    }
  }

  const respond = async (form: URLSearchParams, response: ServerResponse, jkt: string | undefined): Promise<void> => {
    const claims = await claimsFor(form)
    if ('error' in claims) {
      json(response, 400, claims)
      return
    }
    const scopes = String(claims['scope'] ?? form.get('scope') ?? 'read write').split(' ')
    const unknown = scopes.find((scope) => !SCOPES.includes(scope))
    if (unknown !== undefined) {
      json(response, 400, no('invalid_scope', `there is no scope ${unknown}`))
      return
    }
    double.requests.push(Object.fromEntries(form))
    if (double.untidy.refusal !== undefined) {
      const { status, ...refusal } = double.untidy.refusal
      json(response, status, refusal)
      return
    }
    const how = double.spoil.shift()
    const payload: JWTPayload = {
      ...claims,
      ...(how === 'for somebody else' ? { sub: 'mallory' } : {}),
      ...(jkt === undefined || double.binding.answers === 'no key' || double.binding.answers === 'bearer'
        ? {}
        : { cnf: { jkt: double.binding.answers === 'another key' ? 'another' : jkt } }),
      scope: scopes.join(' '),
      client_id: client.id,
      jti: randomUUID(),
      iat: Math.floor(Date.now() / 1000),
    }
    double.issued.push(payload)
    const accessToken = await new SignJWT({
      iss: userIssuer,
      aud: form.get('resource') ?? double.url,
      exp: Math.floor(Date.now() / 1000) + 600,
      ...payload,
      ...double.untidy.claims,
    })
      .setProtectedHeader({ alg: 'ES256', typ: double.untidy.typ ?? 'at+jwt', kid: 'key' })
      .sign(own.privateKey)
    const answer = {
      access_token: accessToken,
      token_type:
        double.binding.answers === 'bound' || (jkt !== undefined && double.binding.answers !== 'bearer')
          ? 'DPoP'
          : 'Bearer',
      expires_in: 600,
      scope: scopes.join(' '),
      ...(form.get('grant_type')!.endsWith('token-exchange')
        ? { issued_token_type: 'urn:ietf:params:oauth:token-type:access_token' }
        : {}),
    }
    // What was not processed was not used.
    if (how === 'busy' && isIdJag(form.get('assertion'))) used.delete(decodeJwt(form.get('assertion')!).jti!)
    const { access_token: _, ...withoutToken } = answer
    const { expires_in: __, ...withoutEnd } = answer
    answerSpoilt(response, how === 'for somebody else' ? undefined : how, {
      type: 'application/json',
      status: 200,
      whole: JSON.stringify(answer),
      spoilt: {
        'error with 200': JSON.stringify(no('invalid_grant', 'come back later')),
        'another token type': JSON.stringify({ ...answer, token_type: 'mac' }),
        'no expiry': JSON.stringify(withoutEnd),
        expired: JSON.stringify({ ...answer, expires_in: 0 }),
        'surplus scope': JSON.stringify({ ...answer, scope: `${answer.scope} admin` }),
        'no token': JSON.stringify(withoutToken),
      },
    })
  }

  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => {
      body += chunk.toString('utf8')
    })
    request.on('end', () => {
      void (async () => {
        const form = new URLSearchParams(body)
        if (request.method !== 'POST' || request.url !== '/token') {
          json(response, 404, {})
          return
        }
        if (!(await authenticated(form, request.headers.authorization))) {
          json(response, 401, no('invalid_client', 'the client is not who it says'))
          return
        }
        const proof = request.headersDistinct['dpop']
        if (double.binding.nonce !== undefined) response.setHeader('dpop-nonce', double.binding.nonce)
        const jkt =
          proof === undefined
            ? undefined
            : proof.length === 1
              ? await proved(proof[0]!)
              : no('invalid_dpop_proof', 'there is more than one')
        if (typeof jkt === 'object') {
          json(response, 400, jkt)
          return
        }
        await respond(form, response, jkt)
      })()
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const redeemSaml = createSamlGrant({
    certificate: samlSigner.certificate,
    issuer: client.id,
    audience: `${url}/token`,
    tokenEndpoint: `${url}/token`,
  })
  const double: AuthorizationServerDouble = {
    url,
    client,
    samlSigner,
    spoil: [],
    requests: [],
    issued: [],
    binding: {},
    untidy: {},
    proofs: [],
    clientKey: { ...clientPair.privateKey.export({ format: 'jwk' }), kid: 'key' } as JWK,
    assertionKey: { ...assertionPair.privateKey.export({ format: 'jwk' }), kid: 'key' } as JWK,
    userToken: (claims) =>
      new SignJWT(claims)
        .setProtectedHeader({ alg: 'ES256' })
        .setIssuer(userIssuer)
        .setIssuedAt()
        .setExpirationTime('10m')
        .sign(own.privateKey),
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve()
        })
        server.closeAllConnections()
      }),
  }
  return double
}
