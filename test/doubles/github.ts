/**
 * GitHub's API for apps, strict about what its documentation says (pages are below https://docs.github.com/en):
 * - the assertion is RS256, `iss` the client id or app id, `exp` no more than 10 minutes from now (apps/creating-github-apps/authenticating-with-a-github-app/generating-a-json-web-token-jwt-for-a-github-app);
 * - `permissions` and `repositories` narrow, and without them a token has all that the installation has; 422 for a permission that the installation was not given, or a
 *   repository that it cannot reach; at most 500 repositories; 201 with a token that lives an hour; `metadata: read` comes along (rest/apps/apps#create-an-installation-access-token-for-an-app);
 * - DELETE /installation/token with a token ends it, 204, and it is taken nowhere any more: 401 (rest/apps/installations#revoke-an-installation-access-token);
 * - a token lists what it can reach, GET /installation/repositories (rest/apps/installations#list-repositories-accessible-to-the-app-installation);
 * - requests have a User-Agent, else 403 (rest/using-the-rest-api/getting-started-with-the-rest-api#user-agent).
 */
import { generateKeyPairSync, randomBytes, type KeyPairKeyObjectResult } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { jwtVerify } from 'jose'
import { z } from 'zod'
import { answerSpoilt, type SpoiltAnswer } from './spoilt.ts'

const wishSchema = z.strictObject({
  permissions: z.record(z.string(), z.enum(['read', 'write', 'admin'])).optional(),
  repositories: z.array(z.string()).min(1).max(500).optional(),
})

export interface GitHubDouble {
  readonly url: string
  readonly clientId: string
  /** PKCS #1, as GitHub hands it out. */
  readonly key: string
  readonly spoil: SpoiltAnswer[]
  /** What tokens were issued for, with the installation. */
  readonly issued: {
    readonly installation: string
    readonly token: string
    readonly permissions: Readonly<Record<string, string>>
    readonly repositories: readonly string[] | 'all'
  }[]
  /** Whether it takes this token. */
  takes(token: string): Promise<boolean>
  readonly ended: readonly string[]
  /** It is away: 503 for everything, as its status page says of an outage. */
  away: boolean
  /** Called with a token that is to be ended, before it is: what it returns is waited for. */
  beforeEnd: (token: string) => Promise<void> | void
  close(): Promise<void>
}

const GRANTED: Readonly<Record<string, readonly string[]>> = {
  metadata: ['read'],
  contents: ['read', 'write'],
  issues: ['read', 'write'],
  administration: ['read', 'write'],
}
const REPOSITORIES: Readonly<Record<string, readonly string[]>> = {
  42: ['notes', 'website', 'payroll'],
  43: ['other'],
  44: Array.from({ length: 50 }, (_, at) => `repository-${at}`),
}

/** One pair for all: an RSA key takes a tenth of a second. */
let keys: KeyPairKeyObjectResult | undefined

export const startGitHub = async (): Promise<GitHubDouble> => {
  const { publicKey, privateKey } = (keys ??= generateKeyPairSync('rsa', { modulusLength: 2048 }))
  const live = new Set<string>()
  const ended: string[] = []
  const refuse = (response: ServerResponse, status: number, message: string): void => {
    response
      .writeHead(status, { 'content-type': 'application/json' })
      .end(JSON.stringify({ message, documentation_url: 'https://docs.github.com/rest' }))
  }

  const isApp = async (authorization: string): Promise<boolean> => {
    try {
      const { payload } = await jwtVerify(authorization.replace(/^Bearer /, ''), publicKey, {
        algorithms: ['RS256'],
        issuer: double.clientId,
        requiredClaims: ['iat', 'exp'],
      })
      return payload.exp! <= Date.now() / 1000 + 600 && payload.iat! <= Date.now() / 1000
    } catch {
      return false
    }
  }

  const withToken = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const [, token] = /^Bearer (ghs_\w+)$/.exec(request.headers.authorization ?? '') ?? []
    if (token === undefined || !live.has(token)) {
      refuse(response, 401, 'Bad credentials')
      return
    }
    if (request.method === 'DELETE' && request.url === '/installation/token') {
      await double.beforeEnd(token)
      live.delete(token)
      ended.push(token)
      response.writeHead(204).end()
      return
    }
    if (request.method === 'GET' && request.url === '/installation/repositories') {
      response
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify({ total_count: 0, repositories: [] }))
      return
    }
    refuse(response, 404, 'Not Found')
  }

  const answer = async (request: IncomingMessage, body: string, response: ServerResponse): Promise<void> => {
    if (request.headers['user-agent'] === undefined) {
      refuse(
        response,
        403,
        'Request forbidden by administrative rules. Please make sure your request has a User-Agent header',
      )
      return
    }
    if (double.away) {
      refuse(response, 503, 'Service unavailable')
      return
    }
    if (request.url?.startsWith('/installation/') === true) {
      await withToken(request, response)
      return
    }
    const installation = /^\/app\/installations\/(\d+)\/access_tokens$/.exec(request.url ?? '')?.[1]
    if (request.method !== 'POST' || installation === undefined) {
      refuse(response, 404, 'Not Found')
      return
    }
    if (!(await isApp(request.headers.authorization ?? ''))) {
      refuse(response, 401, 'A JSON web token could not be decoded')
      return
    }
    const own = REPOSITORIES[installation]
    if (own === undefined) {
      refuse(response, 404, 'Not Found')
      return
    }
    const wish = wishSchema.safeParse(JSON.parse(body))
    if (!wish.success) {
      refuse(response, 422, 'Validation Failed')
      return
    }
    const all = Object.fromEntries(Object.entries(GRANTED).map(([name, levels]) => [name, levels.at(-1)!]))
    const permissions: Record<string, string> =
      wish.data.permissions === undefined ? all : { metadata: 'read', ...wish.data.permissions }
    if (Object.entries(permissions).some(([name, level]) => GRANTED[name]?.includes(level) !== true)) {
      refuse(response, 422, 'The permissions requested are not granted to this installation.')
      return
    }
    if (wish.data.repositories?.some((each) => !own.includes(each)) === true) {
      refuse(
        response,
        422,
        'There is at least one repository that does not exist or is not accessible to the parent installation.',
      )
      return
    }
    const token = `ghs_${randomBytes(18).toString('hex')}`
    const { repositories } = wish.data
    live.add(token)
    double.issued.push({ installation, token, permissions, repositories: repositories ?? 'all' })
    const whole = {
      token,
      expires_at: new Date(Date.now() + 3_600_000).toISOString().replace(/\.\d+/, ''),
      permissions,
      repository_selection: repositories === undefined ? 'all' : 'selected',
      ...(repositories === undefined ? {} : { repositories: repositories.map((name, id) => ({ id, name })) }),
    }
    const { token: _, ...withoutToken } = whole
    const { expires_at: _e, ...withoutEnd } = whole
    answerSpoilt(response, double.spoil.shift(), {
      type: 'application/json',
      status: 201,
      whole: JSON.stringify(whole),
      spoilt: {
        'error with 200': JSON.stringify({ message: 'Bad credentials', was: token }),
        'no token': JSON.stringify(withoutToken),
        'no expiry': JSON.stringify(withoutEnd),
        expired: JSON.stringify({ ...whole, expires_at: '2020-01-01T00:00:00Z' }),
        'surplus scope': JSON.stringify({ ...whole, permissions: { ...permissions, administration: 'write' } }),
      },
    })
  }

  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk: Buffer) => {
      body += chunk.toString('utf8')
    })
    request.on('end', () => {
      void answer(request, body, response)
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const double: GitHubDouble = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    clientId: 'Iv23liDEPUTY',
    key: privateKey.export({ type: 'pkcs1', format: 'pem' }).toString(),
    spoil: [],
    issued: [],
    ended,
    away: false,
    beforeEnd: () => undefined,
    takes: async (token) =>
      (
        await fetch(`${double.url}/installation/repositories`, {
          headers: { authorization: `Bearer ${token}`, 'user-agent': 'test' },
        })
      ).status === 200,
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
