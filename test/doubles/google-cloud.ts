/**
 * Google Cloud's workload identity federation, strict about what its documentation says. Pages are below https://cloud.google.com/iam/docs.
 * - The exchange takes `grant_type`, `audience` (the provider's full name), `scope`, `requested_token_type` (access_token), `subject_token` and `subject_token_type`, and no Authorization
 *   header (reference/sts/rest/v1/TopLevel/token); the token's `aud` is the provider's name, with or without `https:`, it is RS256 or ES256 and has iss, sub, aud, iat and exp
 *   no more than 24 hours apart (workload-identity-federation-with-other-providers); `google.subject` has at most 127 characters.
 * - generateAccessToken wants the scope cloud-platform or iam, a non-empty list of scopes, and at most an hour (reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken).
 */
import { randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createLocalJWKSet, jwtVerify, type JSONWebKeySet, type JWTPayload } from 'jose'
import { z } from 'zod'
import { answerSpoilt, type SpoiltAnswer } from './spoilt.ts'

const SCOPE = 'https://www.googleapis.com/auth/'
const wishSchema = z.strictObject({
  scope: z.array(z.string().startsWith(SCOPE)).min(1),
  lifetime: z.templateLiteral([z.number(), 's']).optional(),
})

export interface GoogleCloudDouble {
  readonly url: string
  readonly provider: string
  readonly account: string
  /** Of the last answer of a request: the account's, where one is asked for. */
  readonly spoil: SpoiltAnswer[]
  readonly issued: {
    readonly token: string
    readonly scopes: readonly string[]
    readonly for: string
    readonly lifetime?: string | undefined
    readonly claims?: JWTPayload
  }[]
  close(): Promise<void>
}

export const startGoogleCloud = async (trusted: {
  readonly issuer: string
  readonly keys: JSONWebKeySet
  readonly impersonates: boolean
}): Promise<GoogleCloudDouble> => {
  const provider =
    '//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/deputy-pool/providers/deputy'
  const account = 'reports@example-project.iam.gserviceaccount.com'
  const json = (response: ServerResponse, status: number, body: object): void => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  }
  const api = (response: ServerResponse, code: number, status: string, message: string): void => {
    json(response, code, { error: { code, status, message } })
  }

  const exchange = async (request: IncomingMessage, form: URLSearchParams, response: ServerResponse): Promise<void> => {
    const no = (error: string, description: string): void => {
      json(response, 400, { error, error_description: description })
    }
    if (request.headers.authorization !== undefined) {
      no('invalid_request', 'Authorization is not taken here')
      return
    }
    if (
      [...form.keys()].toSorted().join(' ') !==
      'audience grant_type requested_token_type scope subject_token subject_token_type'
    ) {
      no('invalid_request', 'parameters')
      return
    }
    if (
      form.get('grant_type') !== 'urn:ietf:params:oauth:grant-type:token-exchange' ||
      form.get('requested_token_type') !== 'urn:ietf:params:oauth:token-type:access_token' ||
      form.get('subject_token_type') !== 'urn:ietf:params:oauth:token-type:jwt'
    ) {
      no('unsupported_grant_type', '')
      return
    }
    if (form.get('audience') !== provider) {
      no(
        'invalid_target',
        `The target service indicated by the "audience" parameters is invalid: ${form.get('audience')}`,
      )
      return
    }
    const scopes = form.get('scope')!.split(' ')
    if (!scopes.every((scope) => scope.startsWith(SCOPE))) {
      no('invalid_scope', 'scope')
      return
    }
    let claims: JWTPayload
    try {
      claims = (
        await jwtVerify(form.get('subject_token')!, createLocalJWKSet(trusted.keys), {
          issuer: trusted.issuer,
          audience: [provider, `https:${provider}`],
          algorithms: ['RS256', 'ES256'],
          requiredClaims: ['sub', 'iat', 'exp'],
        })
      ).payload
      if (claims.exp! - claims.iat! > 86_400 || claims.sub!.length > 127)
        throw new Error('Size of google.subject, or the time between iat and exp')
    } catch (error) {
      no('invalid_grant', `${(error as Error).message}: ${form.get('subject_token')}`)
      return
    }
    const token = `ya29.d.${randomBytes(18).toString('hex')}`
    double.issued.push({ token, scopes, for: claims.sub!, claims })
    const whole = {
      access_token: token,
      issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      token_type: 'Bearer',
      expires_in: 3599,
    }
    const { access_token: _, ...withoutToken } = whole
    const { expires_in: _e, ...withoutEnd } = whole
    answerSpoilt(response, trusted.impersonates ? undefined : double.spoil.shift(), {
      type: 'application/json',
      status: 200,
      whole: JSON.stringify(whole),
      spoilt: {
        'error with 200': JSON.stringify({ error: 'invalid_grant', was: token }),
        'no token': JSON.stringify(withoutToken),
        'no expiry': JSON.stringify(withoutEnd),
        expired: JSON.stringify({ ...whole, expires_in: 0 }),
        'another token type': JSON.stringify({ ...whole, token_type: 'mac' }),
      },
    })
  }

  const generate = (request: IncomingMessage, body: string, response: ServerResponse): void => {
    const caller = double.issued.find(({ token }) => request.headers.authorization === `Bearer ${token}`)
    if (
      caller === undefined ||
      !caller.scopes.some((scope) => scope === `${SCOPE}iam` || scope === `${SCOPE}cloud-platform`)
    ) {
      api(response, 403, 'PERMISSION_DENIED', 'Request had insufficient authentication scopes.')
      return
    }
    if (request.url !== `/v1/projects/-/serviceAccounts/${encodeURIComponent(account)}:generateAccessToken`) {
      api(
        response,
        403,
        'PERMISSION_DENIED',
        "Permission 'iam.serviceAccounts.getAccessToken' denied on resource (or it may not exist).",
      )
      return
    }
    const wish = wishSchema.safeParse(JSON.parse(body))
    const seconds = wish.success ? Number.parseInt(wish.data.lifetime ?? '3600s', 10) : 0
    if (!wish.success || seconds < 1 || seconds > 3600) {
      api(response, 400, 'INVALID_ARGUMENT', 'Request contains an invalid argument.')
      return
    }
    const token = `ya29.c.${randomBytes(18).toString('hex')}`
    double.issued.push({ token, scopes: wish.data.scope, for: account, lifetime: wish.data.lifetime })
    const whole = {
      accessToken: token,
      expireTime: new Date(Date.now() + seconds * 1000).toISOString().replace(/\.\d+/, ''),
    }
    answerSpoilt(response, double.spoil.shift(), {
      type: 'application/json',
      status: 200,
      whole: JSON.stringify(whole),
      spoilt: {
        'error with 200': JSON.stringify({ error: { status: 'UNKNOWN', message: token } }),
        'no token': JSON.stringify({ expireTime: whole.expireTime }),
        'no expiry': JSON.stringify({ accessToken: token }),
        expired: JSON.stringify({ ...whole, expireTime: '2020-01-01T00:00:00Z' }),
      },
    })
  }

  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => {
      body += chunk.toString('utf8')
    })
    request.on('end', () => {
      if (request.url === '/v1/token') void exchange(request, new URLSearchParams(body), response)
      else generate(request, body, response)
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const double: GoogleCloudDouble = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    provider,
    account,
    spoil: [],
    issued: [],
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
