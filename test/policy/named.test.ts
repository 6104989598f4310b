import { describe, expect, it } from 'vitest'
import { formatProblem } from '../../src/config/problem.ts'
import { readFolder } from '../support/check.ts'

const FILE = 'policies/access/own.cedar'
const read = async (text: string, more: Record<string, object> = {}) => {
  const { problems, warnings } = await readFolder({ [FILE]: text, ...more })
  const told = (of: typeof problems) => of.filter(({ file }) => file === FILE).map(formatProblem)
  return { problems: told(problems), warnings: told(warnings) }
}

const agent = (scopes: readonly string[]) => ({
  client: 'deploy',
  owner: 'deploy@company.example',
  agent: {
    tenant: 'acme',
    servers: { notes: { scopes } },
    tokens: [{ issuer: 'https://ci.example', subject: 'repo:acme/app:environment:production' }],
  },
})
const SERVER = {
  server: 'notes',
  resource: 'https://notes.example/mcp',
  tenants: ['acme'],
  owner: 'notes@company.example',
  status: 'approved',
  attest: [{ unix: { uid: 1001 } }],
}
const CLIENTS = {
  'clients/desk.yaml': { client: 'desk', owner: 'desk@company.example', redirect_uris: ['https://desk.example/back'] },
  'clients/deploy.yaml': agent([]),
}

describe('fault 28: names in access policies', () => {
  it.each([
    [
      'forbid (principal, action, resource == Deputy::Downstream::"ledgr");',
      /own\.cedar:1:40: There is no downstream ledgr.*\n.*\n *Did you mean 'ledger'\?/,
    ],
    [
      'permit (principal == Deputy::Workload::"notse", action, resource);',
      /There is no server notse.*\n.*\n *Did you mean 'notes'\?/,
    ],
    [
      'permit (principal in Deputy::Tenant::"acne", action, resource);',
      /There is no tenant acne.*\n.*\n *Did you mean 'acme'\?/,
    ],
    [
      'permit (principal in Deputy::Group::"engineering", action, resource);',
      /The group engineering has no tenant before it.*\n.*\n *Write Deputy::Group::"TENANT\/engineering"/,
    ],
    [
      'permit (principal in Deputy::Group::"acne/engineering", action, resource);',
      /There is no tenant of the group acne\/engineering, acne/,
    ],
    [
      'permit (principal in Deputy::Group::"acme//sales", action, resource);',
      /No group begins with a slash.*\n.*\n *Write Deputy::Group::"acme\/sales"/,
    ],
    [
      '// first\npermit (principal is Deputy::User, action, resource)\nwhen { context.workload in Deputy::Team::"finance" };',
      /own\.cedar:3:28: There is no team of a server finance/,
    ],
    [
      'forbid (principal == Deputy::Agent::"acme/deplyo", action, resource);',
      /There is no agent acme\/deplyo.*\n.*\n *Did you mean 'acme\/deploy'\?/,
    ],
    ['forbid (principal == Deputy::Agent::"acme/desk", action, resource);', /There is no agent acme\/desk/],
    [
      'forbid (principal, action, resource)\nwhen { context has client && context.client.id == "dsk" };',
      /own\.cedar:2:51: There is no client dsk.*\n.*\n *Did you mean 'desk'\?/,
    ],
    [
      'forbid (principal, action, resource)\nunless { context has client && ["desk", "dcr_x", "dsk", "https://c.example/d"].contains(context.client.id) };',
      /There is no client dsk/,
    ],
  ])('%s', async (text, words) => {
    const { problems, warnings } = await read(text, CLIENTS)
    expect(problems).toEqual([])
    expect(warnings).toEqual([expect.stringMatching(words)])
  })

  it('of clients that are there, or in no file, are not warned of; a scope of an agent that no tool requires is', async () => {
    const text =
      'forbid (principal == Deputy::Agent::"acme/deploy", action, resource) when { context has client && (context.client.id == "desk" || context.client.id == "dcr_x" || context.client.id != "https://c.example/d" || context.client.known == "file" || context.client.id like "dsk*") };'
    expect((await read(text, CLIENTS)).warnings).toEqual([])
    const server = { basic_scopes: ['notes:read'], tools: { add: { requires: ['notes:write'] } } }
    const { warnings } = await readFolder({
      ...CLIENTS,
      'servers/notes.yaml': { ...SERVER, ...server },
      'clients/deploy.yaml': agent(['notes:read', 'notes:wirte', 'notes:write']),
    })
    expect(warnings.filter(({ file }) => file.startsWith('clients/')).map(formatProblem)).toEqual([
      expect.stringMatching(/deploy has the scope notes:wirte at notes.*\n *Did you mean 'notes:write'\?/),
    ])
  })

  it('of another environment exist', async () => {
    const { warnings } = await read('forbid (principal, action, resource == Deputy::Downstream::"staging-only");', {
      'downstreams/staging.yaml': {
        downstream: 'staging-only',
        credential: 'minted',
        resource: 'https://s.example',
        environment: 'staging',
      },
    })
    expect(warnings).toEqual([])
  })

  it('policies that never apply, and one that forbids everything, are warned of', async () => {
    expect(
      (await read('permit (principal, action, resource) when { principal is Deputy::Downstream };')).warnings,
    ).toEqual([expect.stringMatching(/own\.cedar:1:1: The policy never applies/)])
    expect((await read('forbid (principal, action, resource);')).warnings).toEqual([
      expect.stringMatching(/own\.cedar:1:1: The policy forbids everything to everybody/),
    ])
  })

  it('one mistake is one problem, with line, column and excerpt', async () => {
    const { problems } = await read(
      '// a\npermit (principal, action, resource)\nwhen { context.enviroment == "test" };\n',
    )
    expect(problems).toEqual([
      `${FILE}:3:8: The context has no attribute enviroment.\n    | when { context.enviroment == "test" };\n    Did you mean 'environment'?`,
    ])
    expect(
      (await read('permit (principal, action, resource) when { context.scopes.containz("a") };')).problems,
    ).toEqual([expect.stringMatching(/own\.cedar:1:\d+: `containz` is not a valid method/i)])
    expect((await read('permit (principal, action == Deputy::Action::"mintd", resource);')).problems).toHaveLength(1)
  })
})
