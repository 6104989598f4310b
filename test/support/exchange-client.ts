/** A token exchange by hand: one POST over the Unix socket, with private_key_jwt, without an SDK. */
import { request } from 'node:http'
import { importJWK, SignJWT, type JWK } from 'jose'

export interface DeputyAnswer {
  readonly status: number
  readonly body: Readonly<Record<string, unknown>>
}

const post = (socketPath: string, form: URLSearchParams): Promise<DeputyAnswer> =>
  new Promise((resolve, reject) => {
    const body = form.toString()
    const outgoing = request(
      {
        socketPath,
        path: '/oauth2/token',
        method: 'POST',
        headers: {
          host: 'localhost',
          'content-type': 'application/x-www-form-urlencoded',
          'content-length': Buffer.byteLength(body),
        },
      },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => {
          chunks.push(chunk)
        })
        response.on('end', () => {
          resolve({
            status: response.statusCode ?? 0,
            body: JSON.parse(Buffer.concat(chunks).toString('utf8')) as Record<string, unknown>,
          })
        })
        response.on('error', reject)
      },
    )
    outgoing.on('error', reject)
    outgoing.end(body)
  })

/** Exchanges the user's token for one of the downstream (RFC 8693); the server proves itself by private_key_jwt (RFC 7523). */
export const exchangeToken = async (
  deputy: { socket: string; issuer: string; server: string; key: JWK },
  wish: { userToken: string; downstream: string; scope: string; tool: string },
): Promise<DeputyAnswer> => {
  const assertion = await new SignJWT({ jti: crypto.randomUUID() })
    .setProtectedHeader({ alg: 'ES256', typ: 'client-authentication+jwt' })
    .setIssuer(deputy.server)
    .setSubject(deputy.server)
    .setAudience(deputy.issuer)
    .setIssuedAt()
    .setExpirationTime('1m')
    .sign(await importJWK(deputy.key, 'ES256'))
  return post(
    deputy.socket,
    new URLSearchParams({
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      subject_token: wish.userToken,
      subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      audience: wish.downstream,
      scope: wish.scope,
      tool: wish.tool,
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
      client_assertion: assertion,
    }),
  )
}
