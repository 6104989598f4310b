/** The configuration folder of a world: the files as an admin and a security team would write them. */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { parseDocument } from 'yaml'
import { createSystemRandom } from '#clock'
import { newKeyText } from '#foundation/crypto'
import { createFile, makeFolders, replaceFile } from '#foundation/files'
import { DOWNSTREAM, LOOPBACK, originAt, SERVER, SERVICE_CLIENT, SIGN_IN_CLIENT, TENANT } from './facts.ts'
import { DEV_FOLDER, PORT_NAMES, type Ports, type State } from './state.ts'

/** The kind of the author's server: the example, one over HTTP, one over stdio, or none. */
export type ServerKind = 'example' | 'http' | 'stdio' | 'none'

const settings = ({ deputy, tools }: Ports): string => `# The daemon of a development world, which \`deputy dev\` runs.
# Every other file of this folder is read again when it changes; this one waits for the next start.
environment: development
issuer: ${originAt(deputy)}
listen:
  connect: ${LOOPBACK}:${deputy}
  mcp: ${LOOPBACK}:${tools}
network: { allow_loopback: true } # its services are on this machine
`

const tenant = ({ idp }: Ports): string => `# The company. Its users sign in at its identity provider.
tenant: ${TENANT}
name: Acme
issuers:
  - issuer: ${originAt(idp)}
sign_in:
  issuer: ${originAt(idp)}
  client_id: ${SIGN_IN_CLIENT}
  client_secret: { file: secrets/sign-in }
`

const provider = ({ service }: Ports): string => `# Facts about the OAuth provider of the notes service.
provider: notes
name: Notes
issuer: ${originAt(service)}
discovery: true
refresh: { rotates: true, narrows: true }
revocation: rfc7009
authorization_parameters: { prompt: consent }
offline_scope: offline_access
`

const downstream = ({
  service,
}: Ports): string => `# The notes service: users connect it, and servers get credentials for it.
downstream: ${DOWNSTREAM}
name: Notes
credential: oauth_grant
provider: notes
client:
  client_id: ${SERVICE_CLIENT}
  client_secret: { file: secrets/notes-service }
scopes:
  notes:read: Read your notes
  notes:write: Change your notes
inject:
  hosts: [${originAt(service)}]
  as: { header: Authorization, value: "Bearer {credential}" }
`

const policies = `// Who gets what through the server. Nothing is permitted unless a policy here says so.

@id("engineers-use-notes")
permit (principal in Deputy::Group::"${TENANT}/engineering", action, resource == Deputy::Downstream::"${DOWNSTREAM}")
when { context.workload == Deputy::Workload::"${SERVER}" };

@id("sales-reads-notes")
permit (principal in Deputy::Group::"${TENANT}/sales", action, resource == Deputy::Downstream::"${DOWNSTREAM}")
when { context.workload == Deputy::Workload::"${SERVER}" && ["notes:read"].containsAll(context.scopes) };
`

/** Of a server of the author's, no tools are known: all of them may use the downstream. */
const TOOLS: Readonly<Record<Exclude<ServerKind, 'none'>, string>> = {
  example: `tools:
  list_notes: { downstream: ${DOWNSTREAM}, scopes: [notes:read] }
  add_note: { downstream: ${DOWNSTREAM}, scopes: [notes:write] }
`,
  http: `# List your tools, so that each gets only what it needs and users see only those that policy permits them:
# tools:
#   list_notes: { downstream: ${DOWNSTREAM}, scopes: [notes:read] }
`,
  stdio: `login_session: true # it acts for the user of \`deputy login\`
exec: { socket: true } # it gets DEPUTY_SOCKET
`,
}

const server = (resource: string, kind: Exclude<ServerKind, 'none'>, uid: number): string => `# Your MCP server.
server: ${SERVER}
name: My server
resource: ${resource}
tenants: [${TENANT}]
owner: you@acme.example
status: approved
sign_in: deputy # MCP clients sign their users in through Deputy
attest: # your own programs are this server; it needs no key
  - unix: { uid: ${uid} }
  - exec: { uid: ${uid} }
downstreams:
  ${DOWNSTREAM}: { scopes: [notes:read, notes:write] }
${TOOLS[kind]}`

const digestOf = (text: string): string => createHash('sha256').update(text).digest('hex')

const writeNew = async (path: string, text: string): Promise<void> => {
  await makeFolders(dirname(path))
  await replaceFile(path, text)
}

/** The ports in a text that the author has edited become the new ones. */
const withPorts = (text: string, before: Ports, now: Ports): string => {
  const moved = new Map(PORT_NAMES.map((name) => [String(before[name]), String(now[name])]))
  return text.replaceAll(/(127\.0\.0\.1:)(\d+)/g, (all, host: string, port: string) => {
    const to = moved.get(port)
    return to === undefined ? all : `${host}${to}`
  })
}

const withResource = (text: string, resource: string): string => {
  const document = parseDocument(text)
  if (document.get('resource') === resource) return text
  document.set('resource', resource)
  return document.toString({ lineWidth: 0 })
}

const FOLDERS = ['state', 'run', 'secrets', 'clients', 'apis', 'servers', 'policies/access', DEV_FOLDER]

interface Written {
  readonly text: string
  /** Changes the author's own version of the file. */
  readonly adapt: (text: string) => string
}

/**
 * Writes the files that are missing, and those that are as `deputy dev` wrote them. In a file that was edited it changes
 * ports and the address of the server, and nothing else.
 * @param before the ports of the last start. @returns the paths of the edited files
 */
export const writeFiles = async (
  home: string,
  state: State,
  { kind, before, uid }: { kind: ServerKind; before: Ports; uid: number },
): Promise<string[]> => {
  const { ports, secrets, resource } = state
  const moved = (text: string): string => withPorts(text, before, ports)
  const files: Record<string, Written> = {
    'deputy.yaml': { text: settings(ports), adapt: moved },
    [`tenants/${TENANT}.yaml`]: { text: tenant(ports), adapt: moved },
    'providers/notes.yaml': { text: provider(ports), adapt: moved },
    [`downstreams/${DOWNSTREAM}.yaml`]: { text: downstream(ports), adapt: moved },
    ...(kind === 'none'
      ? {}
      : {
          'policies/access/dev.cedar': { text: policies, adapt: (text: string) => text },
          [`servers/${SERVER}.yaml`]: {
            text: server(resource, kind, uid),
            adapt: (text: string) => withResource(moved(text), resource),
          },
        }),
  }
  for (const folder of FOLDERS) await makeFolders(join(home, folder))
  await createFile(join(home, 'state/kek'), newKeyText(createSystemRandom()))
  await replaceFile(join(home, 'secrets/sign-in'), secrets.signIn)
  await replaceFile(join(home, 'secrets/notes-service'), secrets.service)
  const edited: string[] = []
  for (const [name, { text, adapt }] of Object.entries(files)) {
    const path = join(home, name)
    const found = await readFile(path, 'utf8').catch(() => undefined)
    if (found === undefined || digestOf(found) === state.files[name]) {
      if (found !== text) await writeNew(path, text)
      state.files[name] = digestOf(text)
      continue
    }
    edited.push(name)
    const adapted = adapt(found)
    if (adapted !== found) await replaceFile(path, adapted)
  }
  return edited
}
