/**
 * Microsoft Entra ID's client credentials flow with a federated credential, strict about what its documentation says
 * (https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow, and .../entra/workload-id/workload-identity-federation-considerations):
 * `scope` is one service's `/.default`; the assertion's issuer, subject and audience are exactly those of the federated credential (AADSTS700211, AADSTS700213, AADSTS700212), and it is
 * signed with RS256, the one algorithm that is supported.
 * The errors are those of .../entra/identity-platform/reference-error-codes.
 */
import { createServer, type ServerResponse } from 'node:http'
import { randomBytes } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { createLocalJWKSet, jwtVerify, type JSONWebKeySet } from 'jose'
import { answerSpoilt, type SpoiltAnswer } from './spoilt.ts'

export interface EntraDouble {
  readonly url: string
  readonly directory: string
  readonly clientId: string
  readonly spoil: SpoiltAnswer[]
  readonly issued: { readonly token: string; readonly scope: string; readonly subject: string }[]
  close(): Promise<void>
}

export const startEntra = async (federated: {
  readonly issuer: string
  readonly keys: JSONWebKeySet
  readonly subject: string
  readonly audience: string
}): Promise<EntraDouble> => {
  const no = (response: ServerResponse, status: number, error: string, description: string): void => {
    response
      .writeHead(status, { 'content-type': 'application/json' })
      .end(
        JSON.stringify({ error, error_description: description, error_codes: [], trace_id: 't', correlation_id: 'c' }),
      )
  }
  const answer = async (path: string, form: URLSearchParams, response: ServerResponse): Promise<void> => {
    if (path !== `/${double.directory}/oauth2/v2.0/token`) {
      no(response, 400, 'invalid_request', 'AADSTS90002: Tenant not found.')
      return
    }
    if (
      [...form.keys()].toSorted().join(' ') !== 'client_assertion client_assertion_type client_id grant_type scope' ||
      form.get('client_assertion_type') !== 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer'
    ) {
      no(response, 400, 'invalid_request', 'AADSTS900144')
      return
    }
    if (form.get('grant_type') !== 'client_credentials') {
      no(response, 400, 'unsupported_grant_type', 'AADSTS70003')
      return
    }
    if (form.get('client_id') !== double.clientId) {
      no(response, 400, 'unauthorized_client', 'AADSTS700016: Application was not found in the directory.')
      return
    }
    if (!/^https:\/\/[a-z.]+\/\.default$/.test(form.get('scope')!)) {
      no(response, 400, 'invalid_scope', 'AADSTS1002012: The provided value for scope is not valid.')
      return
    }
    let subject: string | undefined
    try {
      const { payload } = await jwtVerify(form.get('client_assertion')!, createLocalJWKSet(federated.keys), {
        issuer: federated.issuer,
        algorithms: ['RS256'],
        requiredClaims: ['exp', 'sub', 'aud'],
      })
      if (payload.sub !== federated.subject) {
        no(
          response,
          401,
          'invalid_client',
          `AADSTS700213: No matching federated identity record found for presented assertion subject '${payload.sub}'.`,
        )
        return
      }
      if (payload.aud !== federated.audience) {
        no(
          response,
          401,
          'invalid_client',
          'AADSTS700212: No matching federated identity record found for presented assertion audience.',
        )
        return
      }
      subject = payload.sub
    } catch {
      no(
        response,
        401,
        'invalid_client',
        'AADSTS700211: No matching federated identity record found for presented assertion issuer.',
      )
      return
    }
    const token = `eyJ0eXAi.${randomBytes(18).toString('hex')}.${randomBytes(18).toString('hex')}`
    double.issued.push({ token, scope: form.get('scope')!, subject })
    const whole = { token_type: 'Bearer', expires_in: 3599, ext_expires_in: 3599, access_token: token }
    const { access_token: _, ...withoutToken } = whole
    const { expires_in: _e, ...withoutEnd } = whole
    answerSpoilt(response, double.spoil.shift(), {
      type: 'application/json',
      status: 200,
      whole: JSON.stringify(whole),
      spoilt: {
        'error with 200': JSON.stringify({ error: 'invalid_client', was: token }),
        'no token': JSON.stringify(withoutToken),
        'no expiry': JSON.stringify(withoutEnd),
        expired: JSON.stringify({ ...whole, expires_in: 0 }),
        'another token type': JSON.stringify({ ...whole, token_type: 'pop' }),
      },
    })
  }
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => {
      body += chunk.toString('utf8')
    })
    request.on('end', () => {
      void answer(request.url ?? '', new URLSearchParams(body), response)
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const double: EntraDouble = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    directory: '11111111-2222-3333-4444-555555555555',
    clientId: 'aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee',
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
