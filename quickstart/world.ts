/** Everything that the quickstart starts: real servers, real processes, in a temporary folder, on free ports. */
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { exportJWK, generateKeyPair } from 'jose'
import { parse, stringify } from 'yaml'
import { SIGN_IN_CLIENT, startCompanyIdp, type CompanyIdp } from '../test/peers/company-idp.ts'
import { startDownstreamApi, type DownstreamApi } from '../test/peers/downstream-api.ts'
import { CLI, freePort, runCli, startProcess, stopProcess } from '../test/support/process.ts'
import { SERVICE_CLIENT, startOAuthService, type OAuthService } from '../test/peers/oauth-service.ts'

export interface World {
  readonly home: string
  readonly idp: CompanyIdp
  readonly service: OAuthService
  readonly api: DownstreamApi
  readonly connectUrl: string
  readonly servers: Readonly<Record<'notes' | 'calendar', { url: string }>>
  /** The MCP endpoint of the tools that Deputy itself serves; `publishTools` registers them. */
  readonly tools: { readonly url: string }
  /** Runs the CLI. */
  deputy(...args: string[]): Promise<{ code: number; out: string; err: string }>
  close(): Promise<void>
}

const writeYaml = (path: string, value: object): Promise<void> => writeFile(path, stringify(value), { mode: 0o600 })

/** @param options.servers false: the two MCP servers are registered, and whoever asked starts them; their settings are in `<name>-server.json` */
export const startWorld = async (say: (what: string) => void, options: { servers?: boolean } = {}): Promise<World> => {
  const home = await mkdtemp(join(tmpdir(), 'deputy-quickstart-'))
  const closers: (() => Promise<unknown>)[] = []
  const close = async (): Promise<void> => {
    for (const each of closers.splice(0).reverse()) await each()
    await rm(home, { recursive: true, force: true })
  }
  try {
    const [connectPort, notesPort, calendarPort] = [await freePort(), await freePort(), await freePort()]
    const mcpPort = await freePort()
    const connectUrl = `http://127.0.0.1:${connectPort}`
    const servers = {
      notes: { url: `http://127.0.0.1:${notesPort}/mcp` },
      calendar: { url: `http://127.0.0.1:${calendarPort}/mcp` },
    }
    const idp = await startCompanyIdp({
      resources: [servers.notes.url, servers.calendar.url],
      redirectUris: [`${connectUrl}/connect/signed-in`],
    })
    closers.push(() => idp.close())
    say(`the company's identity provider runs at ${idp.url}`)
    const service = await startOAuthService({ redirectUris: [`${connectUrl}/connect/callback`] })
    closers.push(() => service.close())
    const api = await startDownstreamApi({ service })
    closers.push(() => api.close())
    say(`the notes service runs at ${service.url}, its API at ${api.url}`)

    const keys = {
      notes: await generateKeyPair('ES256', { extractable: true }),
      calendar: await generateKeyPair('ES256', { extractable: true }),
    }
    const init = await runCli(home, ['init', home])
    if (init.code !== 0) throw new Error(init.err)
    const policy = 'policies/access/example.cedar'
    await copyFile(join(import.meta.dirname, '..', policy), join(home, policy))
    await writeConfiguration(home, {
      connectPort,
      mcpPort,
      api,
      idp,
      service,
      servers,
      publicKeys: { notes: await exportJWK(keys.notes.publicKey), calendar: await exportJWK(keys.calendar.publicKey) },
    })
    const daemon = await startProcess([CLI, 'serve', '--home', home], /deputy is ready/)
    closers.push(() => stopProcess(daemon))
    say('deputy serve runs')

    for (const [server, { port }] of Object.entries({ notes: { port: notesPort }, calendar: { port: calendarPort } })) {
      const path = join(home, `${server}-server.json`)
      const key = await exportJWK(keys[server as 'notes' | 'calendar'].privateKey)
      await writeFile(
        path,
        JSON.stringify({ server, port, socket: join(home, 'run/deputy.sock'), issuer: connectUrl, api: api.url, key }),
        { mode: 0o600 },
      )
      if (options.servers === false) continue
      const child = await startProcess([join(import.meta.dirname, 'mcp-server.ts'), path], /listening/)
      closers.push(() => stopProcess(child))
    }
    if (options.servers !== false) say('two MCP servers run: notes and calendar')
    const tools = { url: `http://127.0.0.1:${mcpPort}/tools` }
    return { home, idp, service, api, connectUrl, servers, tools, deputy: (...args) => runCli(home, args), close }
  } catch (error) {
    await close()
    throw error
  }
}

const writeConfiguration = async (
  home: string,
  facts: {
    connectPort: number
    mcpPort: number
    api: DownstreamApi
    idp: CompanyIdp
    service: OAuthService
    servers: World['servers']
    publicKeys: Record<'notes' | 'calendar', object>
  },
): Promise<void> => {
  const { connectPort, mcpPort, api, idp, service, servers, publicKeys } = facts
  await writeYaml(join(home, 'deputy.yaml'), {
    environment: 'development',
    issuer: `http://127.0.0.1:${connectPort}`,
    listen: { connect: `127.0.0.1:${connectPort}`, mcp: `127.0.0.1:${mcpPort}` },
    network: { allow_loopback: true },
  })
  const secrets = join(home, 'secrets')
  await mkdir(secrets, { mode: 0o700 })
  await writeFile(join(secrets, 'sign-in'), SIGN_IN_CLIENT.client_secret, { mode: 0o600 })
  await writeFile(join(secrets, 'notes-service'), SERVICE_CLIENT.client_secret, { mode: 0o600 })
  await writeYaml(join(home, 'tenants/acme.yaml'), {
    tenant: 'acme',
    name: 'Acme',
    issuers: [{ issuer: idp.issuer }],
    sign_in: { issuer: idp.issuer, client_id: SIGN_IN_CLIENT.client_id, client_secret: { file: 'secrets/sign-in' } },
  })
  await writeYaml(join(home, 'providers/notes.yaml'), {
    provider: 'notes',
    name: 'Notes',
    issuer: service.url,
    discovery: true,
    refresh: { rotates: true, narrows: true },
    revocation: 'rfc7009',
    authorization_parameters: { prompt: 'consent' },
    offline_scope: 'offline_access',
  })
  await writeYaml(join(home, 'downstreams/notes-api.yaml'), {
    downstream: 'notes-api',
    name: 'Notes',
    credential: 'oauth_grant',
    provider: 'notes',
    client: { client_id: SERVICE_CLIENT.client_id, client_secret: { file: 'secrets/notes-service' } },
    scopes: { 'notes:read': 'Read your notes', 'notes:write': 'Change your notes' },
    inject: { hosts: [api.url], as: { header: 'Authorization', value: 'Bearer {credential}' } },
  })
  for (const [server, { url }] of Object.entries(servers)) {
    await writeYaml(join(home, `servers/${server}.yaml`), {
      server,
      name: server === 'notes' ? 'Notes assistant' : 'Calendar assistant',
      resource: url,
      tenants: ['acme'],
      owner: `${server}@acme.example`,
      status: 'approved',
      sign_in: 'deputy',
      attest: [{ private_key_jwt: { jwks: { keys: [publicKeys[server as 'notes' | 'calendar']] } } }],
      downstreams: { 'notes-api': { scopes: ['notes:read'] } },
      tools: { list_notes: { downstream: 'notes-api', scopes: ['notes:read'] } },
    })
  }
  await chmod(home, 0o700)
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
