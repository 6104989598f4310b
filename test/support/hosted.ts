/** A daemon that serves an API as tools, the API itself, and its callers. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { startTestIssuer, startDaemonHere, type DaemonHere, type Files, type TestIssuer } from './daemon.ts'
import { freePort, runCli } from './process.ts'

export interface SeenRequest {
  readonly method: string
  readonly url: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

export type Answering = (request: SeenRequest, response: ServerResponse) => void

export interface TestApi {
  readonly url: string
  readonly seen: SeenRequest[]
  /** Replaces what it answers; undefined: what the document says. */
  answerBy(answering: Answering | undefined): void
  close(): Promise<void>
}

const INVOICES = [
  { id: 'i1', amount: 120, status: 'open' },
  { id: 'i2', amount: 80, status: 'paid' },
]

const send = (response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}): void => {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))
}

const asDocumented: Answering = ({ method, url }, response) => {
  const { pathname } = new URL(url, 'http://localhost')
  if (pathname === '/v1/invoices' && method === 'GET') send(response, 200, INVOICES)
  else if (pathname === '/v1/invoices') send(response, 201, { id: 'i3' })
  else if (method === 'DELETE') response.writeHead(204).end()
  else send(response, 200, INVOICES[0])
}

/** An HTTP API on this machine. */
export const startTestApi = async (): Promise<TestApi> => {
  const seen: SeenRequest[] = []
  let answering: Answering | undefined
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const { method = '', url = '', headers } = request
      const one = { method, url, headers, body: Buffer.concat(chunks).toString('utf8') }
      seen.push(one)
      ;(answering ?? asDocumented)(one, response)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    answerBy: (by) => {
      answering = by
    },
    async close() {
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
}

const invoice = {
  type: 'object',
  required: ['id', 'amount', 'status'],
  properties: {
    id: { type: 'string' },
    amount: { type: 'number' },
    status: { type: 'string', enum: ['open', 'paid'] },
  },
}
const json = (schema: object): object => ({ 'application/json': { schema } })
const idParameter = { name: 'id', in: 'path', required: true, schema: { type: 'string' } }

/** The API's document. */
export const billingDocument = (url: string): object => ({
  openapi: '3.1.0',
  info: { title: 'Billing', version: '1.0.0' },
  servers: [{ url: `${url}/v1` }],
  components: {
    securitySchemes: {
      oauth: {
        type: 'oauth2',
        flows: { clientCredentials: { tokenUrl: `${url}/token`, scopes: { read: 'Read', write: 'Write' } } },
      },
    },
  },
  paths: {
    '/invoices': {
      get: {
        operationId: 'listInvoices',
        summary: 'Lists invoices',
        tags: ['invoices'],
        parameters: [{ name: 'status', in: 'query', schema: { type: 'string', enum: ['open', 'paid'] } }],
        responses: { 200: { description: 'Invoices', content: json({ type: 'array', items: invoice }) } },
      },
      post: {
        operationId: 'createInvoice',
        tags: ['invoices'],
        requestBody: {
          required: true,
          content: json({
            type: 'object',
            required: ['amount'],
            properties: { amount: { type: 'number' }, pin: { type: 'string', format: 'password' } },
          }),
        },
        responses: {
          201: { description: 'Made', content: json({ type: 'object', properties: { id: { type: 'string' } } }) },
        },
      },
    },
    '/invoices/{id}': {
      parameters: [idParameter],
      get: {
        operationId: 'getInvoice',
        tags: ['invoices'],
        responses: { 200: { description: 'One', content: json(invoice) } },
      },
      delete: { operationId: 'deleteInvoice', tags: ['invoices'], responses: { 204: { description: 'Gone' } } },
    },
  },
})

/** The files of an API and its accepted document. */
export const apiFiles = (id: string, document: object, more: object = {}): Files => {
  const text = JSON.stringify(document)
  return {
    [`apis/${id}.openapi.json`]: text,
    [`apis/${id}.yaml`]: {
      api: id,
      downstream: id,
      document: { file: `${id}.openapi.json`, sha256: createHash('sha256').update(text).digest('hex') },
      tools: [{ tag: 'invoices' }],
      ...more,
    },
  }
}

export const API_KEY = 'key-of-acme-at-billing-4711'

export interface HostedWorld {
  readonly daemon: DaemonHere
  readonly api: TestApi
  readonly issuer: TestIssuer
  /** Of the MCP endpoint. */
  readonly url: string
  readonly mcpPort: number
  /** A token of a user, who is in these groups. */
  tokenOf(user: string, groups?: readonly string[], claims?: object): Promise<string>
  close(): Promise<void>
}

export const POLICY = `
@id("accounting")
permit (principal in Deputy::Group::"acme/accounting", action == Deputy::Action::"static", resource);
@id("readers")
permit (principal is Deputy::User, action == Deputy::Action::"static", resource)
when { context has operation && context.operation.read_only };
`

/** @param more files beside those of the world, or in their place */
export const startHostedWorld = async (
  options: {
    readonly files?: (facts: { api: TestApi; url: string; issuer: TestIssuer }) => Files
    readonly api?: object
    readonly settings?: object
  } = {},
): Promise<HostedWorld> => {
  const [api, issuer, mcpPort] = [await startTestApi(), await startTestIssuer(), await freePort()]
  const url = `http://127.0.0.1:${mcpPort}/mcp`
  const files: Files = {
    'tenants/acme.yaml': {
      tenant: 'acme',
      issuers: [{ issuer: issuer.url, claims: { tenant: { claim: 'org', value: 'acme' } } }],
    },
    ...apiFiles('billing', billingDocument(api.url), options.api),
    'downstreams/billing.yaml': {
      downstream: 'billing',
      credential: 'static',
      secret: 'billing',
      inject: { hosts: [api.url], as: { header: 'Authorization', value: 'Bearer {credential}' }, only: true },
    },
    'servers/billing-tools.yaml': {
      server: 'billing-tools',
      name: 'Billing',
      resource: url,
      tenants: ['acme'],
      owner: 'billing@acme.example',
      status: 'approved',
      login_session: true,
      apis: [{ api: 'billing' }],
      downstreams: { billing: { scopes: [] } },
    },
    'policies/access/test.cedar': POLICY,
    ...options.files?.({ api, url, issuer }),
  }
  const daemon = await startDaemonHere(files, { listen: { mcp: `127.0.0.1:${mcpPort}` }, ...options.settings })
  const { code, err } = await runCli(daemon.home, ['secret', 'set', '--tenant', 'acme', '--name', 'billing'], API_KEY)
  if (code !== 0) throw new Error(err)
  return {
    daemon,
    api,
    issuer,
    url,
    mcpPort,
    tokenOf: (user, groups = [], claims = {}) => issuer.sign({ sub: user, aud: url, org: 'acme', groups, ...claims }),
    async close() {
      await daemon.close()
      await api.close()
      await issuer.close()
    },
  }
}
