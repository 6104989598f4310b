/**
 * `npm run bench:tools`: a tool call of an API with a cached credential beside the same request sent by plain `fetch`, and beside a bare
 * `node:http` reverse proxy under load, in one run, each a process of its own, with the audit log durable. Then 5,000 tools of 50 APIs: the
 * start beside one without them, `tools/list`, and memory. `--quick` is a shorter form.
 */
import { createHash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Pool } from 'undici'
import { prepareDaemon, startTestIssuer, type Files } from '../test/support/daemon.ts'
import { freePort, runCli, startProcess, stopProcess } from '../test/support/process.ts'
import { load, rss, type Measured } from './load.ts'

const isQuick = process.argv.includes('--quick')
const SECONDS = isQuick ? 2 : 4
const ROUNDS = isQuick ? 2 : 5
const CALLS = isQuick ? 500 : 2000
const KEY = 'k3y-of-the-service'

const folder = await mkdtemp(join(tmpdir(), 'deputy-bench-'))
const middle = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!

const startService = async (): Promise<{ url: string; stop(): Promise<void> }> => {
  const port = await freePort()
  const file = join(folder, 'service.mjs')
  await writeFile(
    file,
    `import { createServer } from 'node:http'
const small = Buffer.from(JSON.stringify({ id: 'x', text: 'x'.repeat(500) }))
createServer((request, response) => { request.resume(); request.on('end', () => { response.writeHead(200, { 'content-type': 'application/json', 'content-length': small.length }).end(small) }) }).listen(${port}, '127.0.0.1', () => console.log('listening'))`,
  )
  const child = await startProcess([file], /listening/)
  return { url: `http://127.0.0.1:${port}`, stop: () => stopProcess(child) }
}

const startBare = async (service: string): Promise<{ port: number; stop(): Promise<void> }> => {
  const port = await freePort()
  const file = join(folder, 'bare.mjs')
  await writeFile(
    file,
    `import { Agent, createServer, request as send } from 'node:http'
const agent = new Agent({ keepAlive: true })
createServer((request, response) => {
  request.resume()
  const outgoing = send(${JSON.stringify(service)} + '/things/x', { agent, headers: { authorization: 'Bearer ${KEY}' } }, (answer) => { response.writeHead(answer.statusCode, answer.headers); answer.pipe(response) })
  outgoing.end()
}).listen(${port}, '127.0.0.1', () => console.log('listening'))`,
  )
  const child = await startProcess([file], /listening/)
  return { port, stop: () => stopProcess(child) }
}

const thing = {
  type: 'object',
  required: ['id'],
  properties: { id: { type: 'string', description: 'The id of the thing' }, text: { type: 'string' } },
}
/** An API of so many operations. */
const documentOf = (service: string, operations: number): object => ({
  openapi: '3.1.0',
  info: { title: 'Things', version: '1' },
  servers: [{ url: service }],
  paths: Object.fromEntries(
    Array.from({ length: operations }, (_, at) => [
      at === 0 ? '/things/{id}' : `/things-${at}/{id}`,
      {
        get: {
          operationId: at === 0 ? 'getThing' : `getThing${at}`,
          summary: 'Gets one of the things',
          parameters: [
            { name: 'id', in: 'path', required: true, schema: { type: 'string' } },
            { name: 'filter', in: 'query', schema: { type: 'string', enum: ['new', 'old', 'all'] } },
            { name: 'limit', in: 'query', schema: { type: 'integer', minimum: 1, maximum: 100, default: 10 } },
          ],
          responses: { 200: { description: 'A thing', content: { 'application/json': { schema: thing } } } },
        },
      },
    ]),
  ),
})

const apiFile = (id: string, document: object): Files => {
  const text = JSON.stringify(document)
  return {
    [`apis/${id}.openapi.json`]: text,
    [`apis/${id}.yaml`]: {
      api: id,
      downstream: 'api',
      document: { file: `${id}.openapi.json`, sha256: createHash('sha256').update(text).digest('hex') },
      tools: [{ path: '/*' }],
    },
  }
}

const issuer = await startTestIssuer()
const service = await startService()
const bare = await startBare(service.url)

/** A daemon whose servers have one API each. */
const prepare = async (apis: number, operations: number) => {
  const port = await freePort()
  const resource = (at: number): string => `http://127.0.0.1:${port}/mcp/${at}`
  const files: Files = {
    'tenants/acme.yaml': {
      tenant: 'acme',
      issuers: [{ issuer: issuer.url, claims: { tenant: { claim: 'org', value: 'acme' } } }],
    },
    'downstreams/api.yaml': {
      downstream: 'api',
      credential: 'static',
      secret: 'api',
      inject: { hosts: [service.url], as: { header: 'Authorization', value: 'Bearer {credential}' } },
    },
    'policies/access/all.cedar': 'permit (principal is Deputy::User, action, resource);',
    ...Object.assign(
      {},
      ...Array.from({ length: apis }, (_, at) => ({
        ...apiFile(`api-${at}`, documentOf(service.url, operations)),
        [`servers/tools-${at}.yaml`]: {
          server: `tools-${at}`,
          resource: resource(at),
          tenants: ['acme'],
          owner: 'bench@example.com',
          status: 'approved',
          apis: [{ api: `api-${at}` }],
          downstreams: { api: { scopes: [] } },
        },
      })),
    ),
  }
  const daemon = await prepareDaemon(files, { listen: { mcp: `127.0.0.1:${port}` } })
  const token = await issuer.sign({
    aud: resource(0),
    org: 'acme',
    exp: Math.floor(Date.now() / 1000) + 3600,
  })
  return { daemon, port, token }
}

const META = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientInfo': { name: 'bench', version: '1' },
  'io.modelcontextprotocol/clientCapabilities': {},
}
const message = (method: string, params: object): string =>
  JSON.stringify({ jsonrpc: '2.0', id: 1, method, params: { ...params, _meta: META } })
const CALL = message('tools/call', { name: 'getThing', arguments: { id: 'x' } })
const LIST = message('tools/list', {})
const headersOf = (token: string, method: string, name?: string): Record<string, string> => ({
  authorization: `Bearer ${token}`,
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
  'mcp-protocol-version': '2026-07-28',
  'mcp-method': method,
  ...(name === undefined ? {} : { 'mcp-name': name }),
})

/** One request after the other. @returns the median (ms) */
const alone = async (
  pool: Pool,
  path: string,
  options: { headers: Record<string, string>; body?: string },
  calls = CALLS,
) => {
  const times: number[] = []
  for (let count = 0; count < calls; count += 1) {
    const began = performance.now()
    const { statusCode, body } = await pool.request({
      path,
      method: options.body === undefined ? 'GET' : 'POST',
      ...options,
    })
    const text = await body.text()
    if (statusCode !== 200 || text.includes('"isError":true') || text.includes('"error":'))
      throw new Error(`${statusCode} ${text.slice(0, 500)}`)
    times.push(performance.now() - began)
  }
  return middle(times)
}

const startOf = async (given: Awaited<ReturnType<typeof prepare>>): Promise<number> => {
  const began = performance.now()
  await given.daemon.start()
  return performance.now() - began
}

const small = await prepare(1, 1)
await small.daemon.start()
const set = await runCli(small.daemon.home, ['secret', 'set', '--tenant', 'acme', '--name', 'api'], KEY)
if (set.code !== 0) throw new Error(set.err)
const atDaemon = new Pool(`http://127.0.0.1:${small.port}`, { connections: 1 })
const atService = new Pool(service.url, { connections: 1 })
const callHeaders = headersOf(small.token, 'tools/call', 'getThing')
await alone(atDaemon, '/mcp/0', { headers: callHeaders, body: CALL }, 300)
await alone(atService, '/things/x', { headers: {} }, 300)
const added: number[] = []
const rounds: { bare: Measured; tools: Measured }[] = []
for (let round = 0; round < ROUNDS; round += 1) {
  const plain = await alone(atService, '/things/x', { headers: { authorization: `Bearer ${KEY}` } }, CALLS / ROUNDS)
  added.push((await alone(atDaemon, '/mcp/0', { headers: callHeaders, body: CALL }, CALLS / ROUNDS)) - plain)
  rounds.push({
    bare: await load({ origin: `http://127.0.0.1:${bare.port}` }, '/', () => CALL, SECONDS),
    tools: await load({ origin: `http://127.0.0.1:${small.port}` }, '/mcp/0', () => CALL, SECONDS, {
      headers: { ...callHeaders, host: `127.0.0.1:${small.port}` },
    }),
  })
}
const smallRss = (await rss(small.daemon.home)) / 1_048_576
await Promise.all([atDaemon.close(), atService.close()])
await small.daemon.close()

const [none, many] = [await prepare(0, 0), await prepare(50, 100)]
const starts: { none: number; many: number }[] = []
for (let round = 0; round < (isQuick ? 3 : 5); round += 1) {
  const one = { none: await startOf(none), many: await startOf(many) }
  starts.push(one)
  if (round < (isQuick ? 2 : 4)) await Promise.all([none.daemon.stop(), many.daemon.stop()])
}
const atMany = new Pool(`http://127.0.0.1:${many.port}`, { connections: 1 })
const listed = await alone(atMany, '/mcp/0', { headers: headersOf(many.token, 'tools/list'), body: LIST }, 100)
const memory = { none: (await rss(none.daemon.home)) / 1_048_576, many: (await rss(many.daemon.home)) / 1_048_576 }
await atMany.close()
await Promise.all([none.daemon.close(), many.daemon.close()])

const ratio = middle(rounds.map(({ bare: floor, tools }) => tools.perSecond / floor.perSecond))
const start = middle(starts.map((each) => each.many / each.none))
process.stdout.write(
  [
    ...rounds.map(
      ({ bare: floor, tools }) =>
        `bare proxy ${Math.round(floor.perSecond)}/s p99 ${floor.p99.toFixed(2)} ms, tools ${Math.round(tools.perSecond)}/s p99 ${tools.p99.toFixed(2)} ms, failed ${tools.failed}`,
    ),
    `a call beside plain fetch    +${middle(added).toFixed(2)} ms p50 (goal <= 1.5)`,
    `requests/s, tools / bare     ${ratio.toFixed(2)} (goal >= 0.3)`,
    `start with 5,000 tools       ${start.toFixed(2)} x that without (goal < 1.5; ${Math.round(middle(starts.map((each) => each.none)))} and ${Math.round(middle(starts.map((each) => each.many)))} ms)`,
    `tools/list of 100 tools      ${listed.toFixed(1)} ms p50 (goal < 20)`,
    `RSS                          ${Math.round(memory.none)} MB without tools, ${Math.round(memory.many)} MB with 5,000, ${Math.round(smallRss)} MB after the load`,
    '',
    JSON.stringify({ rounds, added: middle(added), ratio, start, listed, memory }),
  ].join('\n') + '\n',
)
await Promise.all([bare.stop(), service.stop(), issuer.close(), rm(folder, { recursive: true, force: true })])
