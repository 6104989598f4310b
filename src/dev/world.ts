/** Starts a development world: its providers, its configuration, the daemon, and the author's server. */
import { join } from 'node:path'
import type { Clock, Random } from '#clock'
import { type Daemon, startDaemon } from '#daemon'
import type { Shipped } from '#daemon/configuration'
import { type CommandServer, startCommand } from './command-server.ts'
import { connectUser } from './connect-user.ts'
import { startExampleServer } from './example-server.ts'
import { LOOPBACK, originAt, SERVER, TENANT } from './facts.ts'
import { type ServerKind, writeFiles } from './files.ts'
import { openFolder, type WorldFolder } from './home.ts'
import { startIdentityProvider } from './identity-provider.ts'
import { openLog } from './log.ts'
import { KeptRecords } from './kept-records.ts'
import { assertLoopback } from './loopback.ts'
import { startNotesService } from './notes-service.ts'
import type { OpenIdServer } from './openid-server.ts'
import { choosePorts } from './ports.ts'
import { DEV_FOLDER, newState, type Ports, type State, writeState } from './state.ts'
import { mintUserToken } from './token.ts'

/** The author's server. */
export type DevServer =
  | { readonly kind: 'example' | 'none' }
  /** One that the author runs; or that a command of the world's runs at `resource`, where no URL is given. */
  | { readonly kind: 'http'; readonly url?: string; readonly command?: readonly string[] }
  | { readonly kind: 'stdio' }

export interface DevWorldOptions {
  /** A folder that is kept; undefined: a temporary one, which is removed at the end. */
  readonly home: string | undefined
  /** The first of five ports in a row. */
  readonly firstPort?: number
  /** Ports of the caller's choice. */
  readonly ports?: Partial<Ports>
  readonly server: DevServer
  /** The providers remember who has signed in, as those of companies do; default: they ask each time. */
  readonly remembersUsers?: boolean
  readonly shipped: Shipped
  readonly version: string
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly workingFolder: string
  readonly clock: Clock
  readonly random: Random
  /** Gets what the author should see of the daemon's log. */
  readonly tell?: (line: string) => void
  /** The folder for temporary ones, and folders in which no world is made. */
  readonly places: { readonly temporary: string; readonly forbidden: readonly string[] }
  readonly uid: number
}

export interface DevWorld {
  readonly home: string
  readonly isTemporary: boolean
  readonly kind: ServerKind
  /** Whether the world starts the author's server. */
  readonly hasCommand: boolean
  readonly idp: OpenIdServer
  readonly service: OpenIdServer
  /** Base address of the notes service's API. */
  readonly api: string
  /** Deputy's pages and authorization server. */
  readonly deputy: string
  /** Origin of the servers that Deputy hosts. */
  readonly tools: string
  /** The author's server. */
  readonly resource: string
  readonly socket: string
  readonly admin: string
  /** What the author should know about this start. */
  readonly notes: readonly string[]
  /** The environment in which the author's server runs. */
  readonly serverEnvironment: Readonly<Record<string, string>>
  /** @param resource default: the author's server */
  token(user: string, resource?: string): Promise<string>
  reload(): ReturnType<Daemon['reload']>
  /** Starts the author's command, where there is one. */
  startServer(): Promise<CommandServer | undefined>
  stop(): Promise<void>
}

const resourceOf = (server: DevServer, { server: port }: Ports): string => {
  if (server.kind === 'stdio') return `urn:mcp:${SERVER}`
  return server.kind === 'http' && server.url !== undefined ? server.url : `${originAt(port)}/mcp`
}

/** The port of a server that the author runs. */
const ownPort = (server: DevServer): number | undefined => {
  if (server.kind !== 'http' || server.url === undefined) return undefined
  const { port, protocol } = new URL(server.url)
  return port === '' ? (protocol === 'https:' ? 443 : 80) : Number(port)
}

interface Prepared {
  readonly folder: WorldFolder
  readonly state: State
  readonly notes: string[]
}

/** Chooses the ports and writes the files. */
const prepare = async (options: DevWorldOptions, folder: WorldFolder): Promise<Prepared> => {
  const { home, state: earlier } = folder
  const own = ownPort(options.server)
  const { ports, taken } = await choosePorts({
    ...(options.firstPort === undefined ? {} : { first: options.firstPort }),
    ...(own === undefined ? {} : { given: { server: own } }),
    before: { ...earlier?.ports, ...options.ports },
  })
  const resource = resourceOf(options.server, ports)
  const state = earlier ?? newState(ports, resource)
  const before = state.ports
  Object.assign(state, { ports, resource })
  const edited = await writeFiles(home, state, { kind: options.server.kind, before, uid: options.uid })
  await assertLoopback(home)
  await writeState(home, state)
  const notes = [
    ...(taken.length === 0 ? [] : [`The ports ${taken.join(', ')} of the last start are taken: others are used.`]),
    ...(edited.length === 0 ? [] : [`Your changes are kept: ${edited.join(', ')}.`]),
  ]
  return { folder, state, notes }
}

const environmentOf = (home: string, api: string, { ports: { server } }: State): Readonly<Record<string, string>> => ({
  DEPUTY_HOME: home,
  DEPUTY_SOCKET: join(home, 'run/deputy.sock'),
  HOST: LOOPBACK,
  PORT: String(server),
  NOTES_API: api,
})

/** The two providers. */
const startProviders = async (
  { folder: { home, isTemporary }, state }: Prepared,
  { clock, remembersUsers = false }: DevWorldOptions,
  stack: AsyncDisposableStack,
) => {
  const { ports, keys, secrets } = state
  const deputy = originAt(ports.deputy)
  const back = `${deputy}/connect/signed-in`
  const idp = await startIdentityProvider({
    port: ports.idp,
    key: keys.idp,
    redirectUris: [back, `${back}/${TENANT}`],
    secrets,
    remembersUsers,
  })
  stack.defer(() => idp.close())
  const records = await KeptRecords.open(isTemporary ? undefined : join(home, DEV_FOLDER, 'notes-service.json'), clock)
  stack.defer(() => records.flush())
  const service = await startNotesService({
    port: ports.service,
    key: keys.service,
    cookieKey: secrets.cookies,
    secret: secrets.service,
    redirectUri: `${deputy}/connect/callback`,
    records,
    remembersUsers,
  })
  stack.defer(() => service.close())
  return { idp, service, deputy }
}

const start = async (options: DevWorldOptions, stack: AsyncDisposableStack): Promise<Omit<DevWorld, 'stop'>> => {
  const folder = await openFolder(options.home, options.places)
  stack.defer(() => folder.remove())
  const prepared = await prepare(options, folder)
  const { state, notes } = prepared
  const { home, isTemporary } = folder
  const { clock, random, shipped, version, environment, server } = options
  const { idp, service, deputy } = await startProviders(prepared, options, stack)
  const logger = openLog(home, stack, options.tell)
  const daemon = await startDaemon({ home, shipped, version, environment, clock, random, logger })
  stack.defer(() => daemon.stop())
  const { socket, admin } = daemon.addresses
  const token: DevWorld['token'] = (user, resource) => mintUserToken(state, user, resource)
  if (server.kind === 'example') {
    const report = (problem: string): void => {
      logger.warn({ server: SERVER }, problem)
    }
    const example = await startExampleServer({ socket, port: state.ports.server, api: service.api, report })
    stack.defer(() => example.close())
  }
  if (server.kind !== 'none' && !(await connectUser({ socket, service: service.url }, 'alice', await token('alice'))))
    notes.push('alice has not connected the notes service: your files or a revocation keep her from it.')
  const serverEnvironment = environmentOf(home, service.api, state)
  return {
    home,
    isTemporary,
    kind: server.kind,
    hasCommand: server.kind === 'http' && server.command !== undefined,
    idp,
    service,
    api: service.api,
    deputy,
    tools: originAt(state.ports.tools),
    resource: state.resource,
    socket,
    admin,
    notes,
    serverEnvironment,
    token,
    reload: () => daemon.reload(),
    async startServer() {
      if (server.kind !== 'http' || server.command === undefined) return undefined
      const command = await startCommand(
        server.command,
        { ...environment, ...serverEnvironment },
        options.workingFolder,
      )
      stack.defer(() => command.close())
      return command
    },
  }
}

/**
 * Starts a world.
 * @throws DevError for what the author can change: ports, folders, the command
 * @throws DeputyError where the daemon does not start. Nothing is left running then
 */
export const startDevWorld = async (options: DevWorldOptions): Promise<DevWorld> => {
  const stack = new AsyncDisposableStack()
  try {
    return { ...(await start(options, stack)), stop: () => stack.disposeAsync() }
  } catch (error) {
    await stack.disposeAsync()
    throw error
  }
}
