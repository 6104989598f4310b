/** What `deputy dev` prints. */
import { join } from 'node:path'
import type { DevWorld } from '#dev'
import { shellWord } from './shell-word.ts'
import type { Terminal } from './terminal.ts'

/** A world as data; `deputy dev --json` prints it. */
export interface WorldView {
  readonly mcp: string
  readonly deputy: string
  readonly identity_provider: string
  readonly notes_api: string
  readonly home: string
  readonly socket: string
  readonly server: string
  readonly environment: Readonly<Record<string, string>>
  readonly users: readonly { readonly user: string; readonly groups: readonly string[]; readonly about: string }[]
  readonly token: string
  /** Shell commands, each to be typed as it is. */
  readonly next: {
    /** Names the world to all commands of `deputy` in that shell. */
    readonly home: string
    readonly token: string
    readonly exchange: string
    readonly call: string
    /** Calls a tool of the example, or lists those of the author's server. */
    readonly tool?: string
    readonly connect?: string
  }
}

/** This program on the disk, as absolute paths. */
interface Program {
  readonly node: string
  readonly file: string
}

interface Given {
  readonly program: Program
  readonly environment: Terminal['environment']
  readonly users: Readonly<Record<string, { readonly groups: readonly string[]; readonly about: string }>>
  readonly server: string
  readonly downstream: string
}

/** How the author has called this program: npm says so to what it starts. */
export const calledAs = (environment: Terminal['environment'], program: Program): string => {
  // By its path: in npm's registry the name `deputy` is another project, which npx would run where it finds no other.
  if (environment['npm_command'] === 'exec') return `${shellWord(program.node)} ${shellWord(program.file)}`
  return environment['npm_lifecycle_event'] === 'deputy' ? 'npm run -s deputy --' : 'deputy'
}

const FORM = (fields: Readonly<Record<string, string>>): string =>
  Object.entries(fields)
    .map(([name, value]) => `-d ${name}=${value}`)
    .join(' ')

const exchangeLine = (socket: string, downstream: string): string =>
  `CREDENTIAL=$(curl -s --unix-socket ${shellWord(socket)} http://localhost/oauth2/token ${FORM({
    grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
    subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    subject_token: '$TOKEN',
    audience: downstream,
    scope: 'notes:read',
  })} | sed -E 's/.*"access_token":"([^"]+)".*/\\1/')`

const toolLine = ({ kind, resource }: DevWorld): string => {
  const [method, params] =
    kind === 'example' ? ['tools/call', '"params":{"name":"list_notes","arguments":{}}'] : ['tools/list', '"params":{}']
  return `curl -s ${shellWord(resource)} -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -H 'Accept: application/json, text/event-stream' -d '{"jsonrpc":"2.0","id":1,"method":"${method}",${params}}'`
}

/** @param token of alice for the author's server */
export const worldView = (world: DevWorld, token: string, given: Given): WorldView => {
  const called = calledAs(given.environment, given.program)
  const { home, socket, resource, deputy, idp, api, serverEnvironment } = world
  return {
    mcp: resource,
    deputy,
    identity_provider: idp.url,
    notes_api: api,
    home,
    socket,
    server: given.server,
    environment: serverEnvironment,
    users: Object.entries(given.users).map(([user, { groups, about }]) => ({ user, groups, about })),
    token,
    next: {
      home: `export DEPUTY_HOME=${shellWord(home)}`,
      token: `TOKEN=$(${called} dev token --user alice --home ${shellWord(home)})`,
      exchange: exchangeLine(socket, given.downstream),
      call: `curl -s -w '\\n' -H "Authorization: Bearer $CREDENTIAL" ${api}/notes`,
      ...(world.kind === 'stdio' ? {} : { tool: toolLine(world) }),
      ...(world.kind === 'stdio' ? { connect: `${called} login --tenant acme --home ${shellWord(home)}` } : {}),
    },
  }
}

const aligned = (rows: readonly (readonly [string, string])[]): string => {
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`).join('\n')
}

/** What the author does with the server, by its kind. */
const serverRows = (
  { kind, resource, hasCommand }: DevWorld,
  environment: Readonly<Record<string, string>>,
): [string, string][] => {
  switch (kind) {
    case 'example':
      return [['MCP endpoint', `${resource}  (an example with list_notes and add_note)`]]
    case 'stdio':
      return [['your server', `speaks stdio; MCP clients start it with deputy exec (--client prints how)`]]
    default:
      if (hasCommand) return [['MCP endpoint', `${resource}  (your server)`]]
      return [
        ['MCP endpoint', `${resource}  (your server)`],
        [
          'start it with',
          Object.entries(environment)
            .map(([name, value]) => `${name}=${shellWord(value)}`)
            .join(' '),
        ],
      ]
  }
}

/**
 * The world for a person: what there is, who there is, and what to type next.
 * @param hasClients whether the configuration of MCP clients follows
 */
export const worldText = (view: WorldView, world: DevWorld, hasClients: boolean): string => {
  const isHttp = world.kind !== 'stdio'
  return [
    `Deputy's development world is ready. It is for development only: its users have no passwords.`,
    '',
    aligned([
      ...serverRows(world, view.environment),
      ['Deputy', `${view.deputy}  (sign-in and connect pages)`],
      ['identity provider', view.identity_provider],
      ['notes service', `${view.notes_api}/notes`],
      ['folder', `${view.home}  (${world.isTemporary ? 'removed at the end' : 'kept'})`],
    ]),
    ...world.notes.map((note) => `\n  ${note}`),
    '',
    'Users:',
    aligned(view.users.map(({ user, groups, about }) => [user, `${groups.join(', ').padEnd(12)} ${about}`])),
    '',
    'Files (changes are in force at once):',
    aligned([
      ['your server', join(view.home, `servers/${view.server}.yaml`)],
      ['policies', join(view.home, 'policies/access/dev.cedar')],
      ['log', join(view.home, 'dev/deputy.log')],
    ]),
    '',
    `A token of alice for your server (1 hour):`,
    view.token,
    '',
    `In another terminal: name this world to deputy, get a token, exchange it as your server does, call the notes service.`,
    ...[view.next.home, view.next.token, view.next.exchange, view.next.call].map((line) => `  ${line}`),
    ...(view.next.tool === undefined ? [] : ['', `Call your server as an MCP client does:`, `  ${view.next.tool}`]),
    ...(view.next.connect === undefined
      ? []
      : ['', 'Sign this Unix user in, for a stdio server:', `  ${view.next.connect}`]),
    ...(isHttp
      ? ['', `MCP clients: add ${view.mcp}${hasClients ? '' : ' (--client prints how)'}. Ctrl-C ends everything.`]
      : ['', 'Ctrl-C ends everything.']),
  ].join('\n')
}

/** The configuration of MCP clients. */
export const clientText = (
  snippets: readonly { client: string; place: string; text: string; source: string }[],
): string =>
  [
    '',
    'MCP clients:',
    ...snippets.flatMap(({ client, place, text, source }) => [
      '',
      `${client} (${place}; ${source})`,
      text.replaceAll(/^/gm, '  '),
    ]),
  ].join('\n')
