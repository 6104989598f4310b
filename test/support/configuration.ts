/** A small company for tests: one issuer, three servers, two downstreams that need no network. */
import type { Files } from './daemon.ts'

export const RESOURCES = {
  notes: 'https://notes.example/mcp',
  calendar: 'https://calendar.example/mcp',
  agent: 'https://agent.example/mcp',
} as const
export const LEDGER = 'https://ledger.example/api'

const server = (id: keyof typeof RESOURCES, more: object): object => ({
  server: id,
  resource: RESOURCES[id],
  tenants: ['acme', 'globex'],
  owner: `${id}@example.com`,
  status: 'approved',
  downstreams: {
    ledger: { scopes: ['ledger:read', 'ledger:write'] },
    mail: { scopes: [] },
    agent: { scopes: ['chat'] },
  },
  ...more,
})

/** @param options.uid lets processes of this Unix user be the server `notes` */
export const aCompany = (options: {
  issuer: string
  uid?: number
  keys?: Readonly<Record<string, object>>
  notes?: object
}): Files => ({
  'tenants/acme.yaml': {
    tenant: 'acme',
    issuers: [{ issuer: options.issuer, claims: { tenant: { claim: 'org', value: 'acme' } } }],
  },
  'tenants/globex.yaml': {
    tenant: 'globex',
    issuers: [{ issuer: options.issuer, claims: { tenant: { claim: 'org', value: 'globex' } } }],
  },
  'servers/notes.yaml': server('notes', {
    attest: [{ unix: { uid: options.uid ?? process.getuid!() } }],
    ...options.notes,
  }),
  ...Object.fromEntries(
    Object.entries(options.keys ?? {}).map(([id, jwk]) => [
      `servers/${id}.yaml`,
      server(id as keyof typeof RESOURCES, {
        attest: [{ private_key_jwt: { jwks: { keys: [jwk] } } }],
        tenants: ['acme'],
        service_downstreams: { ledger: { scopes: ['ledger:read'] } },
      }),
    ]),
  ),
  'downstreams/ledger.yaml': {
    downstream: 'ledger',
    credential: 'minted',
    resource: LEDGER,
    scopes: { 'ledger:read': 'Read the ledger', 'ledger:write': 'Write the ledger' },
  },
  'downstreams/mail.yaml': { downstream: 'mail', credential: 'static', secret: 'mail-key', tenants: '*' },
  'downstreams/agent.yaml': {
    downstream: 'agent',
    credential: 'minted',
    resource: RESOURCES.agent,
    scopes: { chat: 'Talk to the agent' },
  },
  'policies/access/test.cedar': `
@id("engineers-read")
permit (principal in Deputy::Group::"acme/engineering", action == Deputy::Action::"minted", resource == Deputy::Downstream::"ledger")
when { ["ledger:read"].containsAll(context.scopes) };
@id("accountants-write")
permit (principal in Deputy::Group::"acme/accounting", action == Deputy::Action::"minted", resource == Deputy::Downstream::"ledger");
@id("globex-all")
permit (principal in Deputy::Tenant::"globex", action, resource);
@id("mail-for-everybody")
permit (principal is Deputy::User, action == Deputy::Action::"static", resource == Deputy::Downstream::"mail");
@id("servers-read-for-themselves")
permit (principal is Deputy::Workload, action == Deputy::Action::"minted", resource == Deputy::Downstream::"ledger");
@id("talk-to-the-agent")
permit (principal is Deputy::User, action == Deputy::Action::"minted", resource == Deputy::Downstream::"agent");
`,
})
