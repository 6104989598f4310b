/** The development world of `deputy dev`, with two MCP servers that prove themselves by keys, as processes of their own. */
import { copyFile, readFile, writeFile } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { exportJWK, generateKeyPair } from 'jose'
import { parse, stringify } from 'yaml'
import { createSystemRandom, systemClock } from '#clock'
import { type DevWorld, type OpenIdServer, startDevWorld } from '#dev'
import { shipped } from '../src/cli/home.ts'
import { freePort, runCli, startProcess, stopProcess } from '../test/support/process.ts'

type ServerName = 'notes' | 'calendar'
const SERVERS = ['notes', 'calendar'] as const

export interface World {
  readonly home: string
  readonly idp: OpenIdServer
  readonly service: OpenIdServer
  readonly api: { readonly url: string }
  readonly connectUrl: string
  readonly servers: Readonly<Record<ServerName, { url: string }>>
  /** The MCP endpoint of the tools that Deputy itself serves; `publishTools` registers them. */
  readonly tools: { readonly url: string }
  /** A user's token of the identity provider for a server. */
  token(user: string, server: ServerName): Promise<string>
  /** Runs the CLI. */
  deputy(...args: string[]): Promise<{ code: number; out: string; err: string }>
  close(): Promise<void>
}

const writeYaml = (path: string, value: object): Promise<void> => writeFile(path, stringify(value), { mode: 0o600 })

const startDev = async (): Promise<DevWorld> =>
  startDevWorld({
    home: undefined,
    ports: { deputy: await freePort(), tools: await freePort() },
    server: { kind: 'none' },
    remembersUsers: true,
    shipped,
    version: '0.0.0',
    environment: process.env,
    workingFolder: process.cwd(),
    clock: systemClock,
    random: createSystemRandom(),
    places: { temporary: tmpdir(), forbidden: [join(homedir(), '.deputy'), '/etc/deputy'] },
    uid: process.getuid!(),
  })

/** Registers a server with a new key. Its settings are in `<name>-server.json` of the folder. @returns its MCP endpoint */
const addServer = async (dev: DevWorld, server: ServerName): Promise<string> => {
  const { publicKey, privateKey } = await generateKeyPair('ES256', { extractable: true })
  const port = await freePort()
  const url = `http://127.0.0.1:${port}/mcp`
  await writeYaml(join(dev.home, `servers/${server}.yaml`), {
    server,
    name: server === 'notes' ? 'Notes assistant' : 'Calendar assistant',
    resource: url,
    tenants: ['acme'],
    owner: `${server}@acme.example`,
    status: 'approved',
    sign_in: 'deputy',
    attest: [{ private_key_jwt: { jwks: { keys: [await exportJWK(publicKey)] } } }],
    downstreams: { 'notes-api': { scopes: ['notes:read'] } },
    tools: { list_notes: { downstream: 'notes-api', scopes: ['notes:read'] } },
  })
  await writeFile(
    join(dev.home, `${server}-server.json`),
    JSON.stringify({
      server,
      port,
      socket: dev.socket,
      issuer: dev.deputy,
      api: dev.api,
      key: await exportJWK(privateKey),
    }),
    { mode: 0o600 },
  )
  return url
}

/** @param options.servers false: the two MCP servers are registered, and the caller starts them */
export const startWorld = async (say: (what: string) => void, options: { servers?: boolean } = {}): Promise<World> => {
  await using stack = new AsyncDisposableStack()
  const dev = await startDev()
  stack.defer(() => dev.stop())
  say(`the world of deputy dev runs: the company's identity provider at ${dev.idp.url}`)
  say(`the notes service at ${dev.service.url}, and deputy itself`)
  const servers = {
    notes: { url: await addServer(dev, 'notes') },
    calendar: { url: await addServer(dev, 'calendar') },
  }
  const policy = 'policies/access/example.cedar'
  await copyFile(resolve(import.meta.dirname, '..', policy), join(dev.home, policy))
  await dev.reload()
  if (options.servers !== false) {
    for (const server of SERVERS) {
      const program = resolve(import.meta.dirname, 'mcp-server.ts')
      const child = await startProcess([program, join(dev.home, `${server}-server.json`)], /listening/)
      stack.defer(() => stopProcess(child))
    }
    say('two MCP servers run: notes and calendar')
  }
  const running = stack.move()
  return {
    home: dev.home,
    idp: dev.idp,
    service: dev.service,
    api: { url: dev.api },
    connectUrl: dev.deputy,
    servers,
    tools: { url: `${dev.tools}/tools` },
    token: (user, server) => dev.token(user, servers[server].url),
    deputy: (...args) => runCli(dev.home, args),
    close: () => running.disposeAsync(),
  }
}

/** What the company that runs the notes API publishes about it. */
const documentOf = ({ api }: World): object => ({
  openapi: '3.1.0',
  info: { title: 'Notes', version: '1' },
  servers: [{ url: api.url }],
  paths: {
    '/notes': {
      get: {
        operationId: 'listNotes',
        summary: 'Lists the notes of the user',
        responses: {
          200: {
            description: 'Notes',
            content: {
              'application/json': {
                schema: {
                  type: 'object',
                  properties: { user: { type: 'string' }, notes: { type: 'array', items: { type: 'string' } } },
                },
              },
            },
          },
        },
      },
      delete: { operationId: 'deleteNotes', responses: { 204: { description: 'Gone' } } },
    },
  },
})

/** Publishes the API of the notes service as tools of a server that Deputy runs. @throws Error when a command fails */
export const publishTools = async (world: World): Promise<void> => {
  const { home, tools } = world
  const spec = join(home, 'notes-api.json')
  await writeFile(spec, JSON.stringify(documentOf(world)), { mode: 0o600 })
  const added = await world.deputy('api', 'add', 'notes', '--spec', spec, '--downstream', 'notes-api')
  if (added.code !== 0) throw new Error(added.err)
  const file = join(home, 'apis/notes.yaml')
  const api = parse(await readFile(file, 'utf8')) as object
  await writeYaml(file, {
    ...api,
    tools: [
      { operation: 'listNotes', scopes: ['notes:read'] },
      { operation: 'deleteNotes', scopes: ['notes:read'] },
    ],
  })
  await writeYaml(join(home, 'servers/notes-tools.yaml'), {
    server: 'notes-tools',
    name: 'Notes tools',
    resource: tools.url,
    tenants: ['acme'],
    owner: 'notes@acme.example',
    status: 'approved',
    sign_in: 'deputy',
    apis: [{ api: 'notes' }],
    downstreams: { 'notes-api': { scopes: ['notes:read'] } },
  })
  await writeFile(
    join(home, 'policies/access/notes-tools.cedar'),
    `// Tools of the notes API that only read are for engineers.
@id("engineers-call-reading-tools")
permit (principal in Deputy::Group::"acme/engineering", action, resource == Deputy::Downstream::"notes-api")
when { context.workload == Deputy::Workload::"notes-tools" && context has operation && context.operation.read_only };
`,
  )
  const reloaded = await world.deputy('reload')
  if (reloaded.code !== 0) throw new Error(`${reloaded.out}${reloaded.err}`)
}
