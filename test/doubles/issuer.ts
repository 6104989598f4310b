/**
 * An issuer whose every answer can be set: keys that rotate, an outage, metadata of all sorts, introspection.
 * It counts what it is asked. For the ordinary case there is the real one in `test/peers/`.
 */
import { generateKeyPairSync, randomUUID, type KeyObject } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { SignJWT } from 'jose'

export interface IssuerKey {
  readonly privateKey: KeyObject
  readonly jwk: Record<string, unknown>
}
export const anIssuerKey = (kid: string = randomUUID()): IssuerKey => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { privateKey, jwk: { ...publicKey.export({ format: 'jwk' }), kid, alg: 'ES256', use: 'sig' } }
}

export interface IssuerDouble {
  readonly url: string
  keys: IssuerKey[]
  /** `refuse`: answers 503. `hang`: answers nothing. */
  outage: 'refuse' | 'hang' | undefined
  metadata: Record<string, unknown>
  /** Paths at which the metadata is. */
  metadataPaths: string[]
  introspect: (form: URLSearchParams, authorization: string | undefined) => object
  /** Answers to paths as they stand here. */
  readonly raw: Map<string, { readonly status: number; readonly type: string; readonly body: string }>
  /** Paths that were asked for. */
  readonly asked: string[]
  sign(claims: object, header?: Record<string, unknown>, key?: IssuerKey): Promise<string>
  close(): Promise<void>
}

export const startIssuerDouble = async (now: () => number, path = ''): Promise<IssuerDouble> => {
  const server = createServer((request, response) => {
    const asked = request.url ?? ''
    double.asked.push(asked)
    if (double.outage === 'hang') return
    if (double.outage === 'refuse') {
      response.writeHead(503).end()
      return
    }
    const answer = (body: object): void => {
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    }
    const raw = double.raw.get(asked)
    if (raw !== undefined) response.writeHead(raw.status, { 'content-type': raw.type }).end(raw.body)
    else if (asked === '/jwks') answer({ keys: double.keys.map(({ jwk }) => jwk) })
    else if (double.metadataPaths.includes(asked)) answer(double.metadata)
    else if (asked === '/introspect') {
      let body = ''
      request.on('data', (chunk: Buffer) => {
        body += chunk.toString('utf8')
      })
      request.on('end', () => {
        answer(double.introspect(new URLSearchParams(body), request.headers.authorization))
      })
    } else response.writeHead(404).end()
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const url = `${origin}${path}`
  const double: IssuerDouble = {
    url,
    keys: [anIssuerKey()],
    outage: undefined,
    asked: [],
    raw: new Map(),
    metadata: { issuer: url, jwks_uri: `${origin}/jwks`, introspection_endpoint: `${origin}/introspect` },
    metadataPaths: [`/.well-known/oauth-authorization-server${path}`],
    introspect: () => ({ active: false }),
    sign: (claims, header = {}, key = double.keys[0]!) => {
      const seconds = Math.floor(now() / 1000)
      return new SignJWT({
        iss: url,
        sub: 'alice',
        aud: 'https://notes.example/mcp',
        iat: seconds,
        exp: seconds + 600,
        ...claims,
      })
        .setProtectedHeader({ alg: 'ES256', kid: key.jwk['kid'] as string, typ: 'at+jwt', ...header })
        .sign(key.privateKey)
    },
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
