import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { parseYamlFile } from '../../src/config/yaml-file.ts'
import { checkFolder as check } from '../support/check.ts'

const agent = (subject: string): string =>
  `client: ci\nowner: me\nagent:\n  tenant: acme\n  servers: { notes: {} }\n  tokens:\n    - issuer: https://ci.example\n      subject: '${subject}'\n`
const notes = 'server: notes\nresource: https://notes.example/mcp\ntenants: [acme]\nowner: o\nstatus: approved\n'

/** File, its content, the line and the words of the problem that it makes. */
type Mistake = readonly [string, string, number, RegExp]
const mistakes: readonly Mistake[] = [
  ['deputy.yaml', 'environment: test\nlisten:\n  sokket: x\n', 3, /listen\.sokket is no known setting/],
  ['deputy.yaml', 'environment: test\nlisten:\n  tcp: 0.0.0.0:1\n', 3, /other machines can reach/],
  ['deputy.yaml', 'environment: test\naudit:\n  deadline: soon\n', 3, /length of time/],
  ['deputy.yaml', 'environment: test\naudit:\n  deadline: 1ms\n', 3, /at least 100ms/],
  ...(
    [
      ['{ name: a, kind: file, path: x }', /required/],
      ['{ name: a, kind: kafka, required: true }', /kafka/],
      ['{ name: a, kind: syslog, required: true }', /either `address` or `socket`/],
      ['{ name: a, kind: syslog, required: true, address: "h:1", datagram: true }', /only a `socket` takes datagrams/],
      [
        '{ name: a, kind: http, required: false, url: "http://siem.example/" }',
        /https URL; http only for an address of this/,
      ],
      ['{ name: a, kind: http, required: false, url: "https://siem.example/", format: splunk_hec }', /secrets\/hec/],
      [
        '{ name: a, kind: http, required: false, url: "https://siem.example/", index: main }',
        /only `format: splunk_hec`/,
      ],
      ['{ name: a, kind: otlp, required: false, url: "https://siem.example/", token: abc }', /token/],
      [
        '{ name: a, kind: otlp, required: false, url: "https://siem.example/", headers: { X-Api-Key: abc } }',
        /token_header/,
      ],
      ['{ name: a, kind: file, required: true, path: x, deadline: 9s }', /longer than audit\.deadline/],
      ['{ name: b, kind: file, required: true, path: x }', /sink b is defined twice/],
      ['{ name: a, kind: segments, required: true, folder: x }', /no caller can wait/],
      ['{ name: a, kind: segments, required: false }', /either `folder` or `s3`/],
      ['{ name: a, kind: segments, required: false, folder: x, seal_after: 5m }', /every segment would be late/],
      ['{ name: a, kind: segments, required: false, s3: { region: eu-central-1, bucket: a_b } }', /name of a bucket/],
    ] as const
  ).map(([sink, problem]): Mistake => [
    'deputy.yaml',
    `environment: test\naudit:\n  sinks:\n    - { name: b, kind: file, required: true, path: y }\n    - ${sink}\n`,
    5,
    problem,
  ]),
  ['deputy.yaml', 'environment: test\nnetwork:\n  allow_private: [10.0.0.0/99]\n', 3, /address range/],
  ['deputy.yaml', 'connect_url: http://deputy.example\n', 1, /plain http/],
  ['deputy.yaml', 'environment: [\n', 2, /./],
  ['tenants/empty.yaml', '# nothing yet\n', 1, /tenant is missing/],
  [
    'tenants/acme.yaml',
    'tenant: acme\nissuers:\n  - issuer: https://idp.example\n',
    3,
    /globex trusts https:\/\/idp\.example as well/,
  ],
  [
    'tenants/acme.yaml',
    'tenant: acme\nissuers:\n  - issuer: https://idp.example\n    algorithms: [HS256]\n    claims: { tenant: { claim: org, value: acme } }\n',
    4,
    /issuers\.0\.algorithms\.0/,
  ],
  [
    'tenants/acme.yaml',
    'tenant: acme\nsign_in:\n  issuer: https://other.example\n  client_id: x\n',
    3,
    /not one of the tenant's issuers/,
  ],
  ['tenants/hub.yaml', 'tenant: hub\nsign_in: { client_id: x }\n', 2, /either `issuer` or `provider`/],
  ['tenants/hub.yaml', 'tenant: hub\nsign_in: { provider: github, client_id: x }\n', 2, /write "\*"/],
  [
    'tenants/hub.yaml',
    'tenant: hub\nsign_in: { provider: githb, client_id: x, members_of: [a] }\n',
    2,
    /There is no provider githb/,
  ],
  [
    'tenants/hub.yaml',
    'tenant: hub\nsign_in: { provider: slack, client_id: x, members_of: [a] }\n',
    2,
    /slack does not say who has signed in/,
  ],
  [
    'tenants/hub.yaml',
    'tenant: hub\nissuers: [{ issuer: https://gitlab.com }]\nsign_in: { provider: gitlab, client_id: x, members_of: "*" }\n',
    3,
    /would have two names/,
  ],
  [
    'tenants/acme.yaml',
    `tenant: acme\nidentity_assertions:\n  issuers:\n    - https://other.example\n  clients: [{ client_id: c, client_secret: { scrypt: scrypt$2$1$1$YQ$${'A'.repeat(43)} } }]\n`,
    4,
    /Assertions of https:\/\/other\.example would be accepted/,
  ],
  ['servers/notes.yaml', `${notes}first_authorization_server: deputy\n`, 6, /accepts no identity assertions/],
  [
    'downstreams/orders.yaml',
    'downstream: orders\ncredential: id_jag\nprovider: auth0\nresource: https://orders.example\nclient: { client_id: x, variables: { host: x.example } }\ntenants:\n  - acme\n',
    7,
    /has no sign-in whose client has a secret/,
  ],
  [
    'clients/desk.yaml',
    'client: desk\nowner: o\nauthentication:\n  client_secret:\n    scrypt: "scrypt$131072$8$1$..."\n',
    5,
    /write the whole output of `deputy server secret`/,
  ],
  ['clients/desk.yaml', 'client: desk\nowner: o\nservers:\n  - notez\n', 4, /There is no server notez/],
  ['clients/desk.yaml', 'client: desk\nowner: o\nservers: [notes]\n', 3, /do not sign in at Deputy for notes/],
  ['clients/desk.yaml', 'client: desk\nowner: o\ntenants: [acmee]\n', 3, /There is no tenant acmee/],
  ['clients/desk.yaml', 'client: dcr_desk\nowner: o\n', 1, /clients that register themselves/],
  ['clients/desk.yaml', 'client: desk\nowner: o\nredirect_uris: [http://desk.example/]\n', 3, /user's own machine/],
  [
    'clients/desk.yaml',
    'client: desk\nowner: o\nauthentication: { client_secret: { scrypt: hunter2 } }\n',
    3,
    /deputy server secret/,
  ],
  ['clients/twin.yaml', 'client: twin\nowner: o\n---\nclient: twin\nowner: o\n', 4, /is defined in clients/],
  ['tenants/acme.yaml', 'tenant: ACME\n', 1, /a-z, 0-9/],
  ['tenants/twin.yaml', 'tenant: acme\n', 1, /is defined in tenants\/acme\.yaml already/],
  [
    'servers/notes.yaml',
    `${notes}accepted_audiences:\n  - { issuer: https://nobody.example, audience: api://notes }\n`,
    7,
    /No tenant of this server trusts https:\/\/nobody\.example/,
  ],
  [
    'servers/notes.yaml',
    `${notes}accepted_audiences:\n  - { issuer: https://idp.example, audience: account }\n`,
    7,
    /write a GUID in lower case, or a URI/,
  ],
  ['servers/notes.yaml', `${notes}downstreams:\n  nowhere: {}\n`, 7, /There is no downstream nowhere/],
  ['servers/notes.yaml', `${notes}downstreams:\n  ledger: { scopes: [ledger:burn] }\n`, 7, /has no scope ledger:burn/],
  [
    'servers/notes.yaml',
    `${notes}tools:\n  post:\n    downstream: ledger\n`,
    8,
    /for which the server is not registered/,
  ],
  ['servers/notes.yaml', `${notes}replaced_by: gone\n`, 6, /There is no server gone/],
  ['clients/ci.yaml', agent('repo:acme*'), 8, /after a part that ends with : or/],
  ['clients/ci.yaml', agent('spiffe://*'), 8, /after a part that ends with : or/],
  ['clients/ci.yaml', agent('*'), 8, /after a part that ends with : or/],
  ['clients/ci.yaml', agent('repo:*:main'), 8, /after a part that ends with : or/],
  ['clients/ci.yaml', agent('x').replace('tenant: acme', 'tenant: initech'), 4, /There is no tenant initech/],
  ['clients/ci.yaml', agent('x').replace('notes: {}', 'gone: {}'), 5, /There is no server gone/],
  ['clients/ci.yaml', agent('x').slice(0, agent('x').indexOf('  tokens')), 3, /an agent proves who it is/],
  ['clients/ci.yaml', `${agent('x')}redirect_uris: ['https://a.example/x']\n`, 9, /no user signs in at an agent/],
  ['servers/notes.yaml', `${notes}attest:\n  - unix: { exe: /bin/x }\n`, 7, /uid|sha256/],
  ['servers/notes.yaml', `${notes}attest:\n  - client_secret: { scrypt: hunter2 }\n`, 7, /deputy server secret/],
  ['servers/notes.yaml', notes.replace('[acme]', '[initech]'), 3, /There is no tenant initech/],
  [
    'servers/notes.yaml',
    `${notes}exec: {}\nattest:\n  - exec: { uid: 1000 }\n`,
    6,
    /login_session does not allow it to use one/,
  ],
  ['servers/notes.yaml', `${notes}exec: { on_behalf_of: server }\n`, 6, /No Unix user may start the server/],
  [
    'servers/notes.yaml',
    `${notes}attest:\n  - exec: { uid: 1000 }\nexec:\n  on_behalf_of: server\n  env:\n    TOKEN: { downstream: ledger }\n`,
    11,
    /not registered under `service_downstreams`/,
  ],
  [
    'servers/notes.yaml',
    `${notes}attest:\n  - exec: { uid: 1000 }\nexec:\n  files:\n    KEY: { downstream: ledger, path: ../key }\n`,
    10,
    /without "\.\."/,
  ],
  [
    'servers/notes.yaml',
    `${notes}attest:\n  - exec: { uid: 1000 }\nexec:\n  renew: signal\n  env:\n    TOKEN: { downstream: ledger }\n`,
    8,
    /use `files`/,
  ],
  [
    'servers/twin.yaml',
    'server: twin\nresource: https://notes.example/mcp\ntenants: "*"\nowner: o\n',
    2,
    /same resource/,
  ],
  [
    'downstreams/git.yaml',
    'downstream: git\ncredential: oauth_grant\nprovider: nobody\nclient: { client_id: x }\n',
    3,
    /There is no provider nobody/,
  ],
  ['downstreams/git.yaml', 'downstream: git\ncredential: magic\n', 2, /credential/],
  [
    'providers/own.yaml',
    'provider: own\nname: Own\nauthorization_endpoint: https://own.example/authorize\n',
    1,
    /token_endpoint/,
  ],
  [
    'downstreams/git.yaml',
    'downstream: git\ncredential: oauth_grant\nprovider: okta\nclient: { client_id: x }\n',
    4,
    /needs the variable host/,
  ],
  [
    'downstreams/git.yaml',
    'downstream: git\ncredential: oauth_grant\nprovider: github\nclient:\n  client_id: x\n  variables: { tenant: a }\n',
    6,
    /has no variable tenant/,
  ],
  [
    'downstreams/git.yaml',
    'downstream: git\ncredential: oauth_grant\nprovider: okta\nclient:\n  client_id: x\n  variables: { host: evil.example/x }\n',
    6,
    /variables\.host/,
  ],
  ['policies/access/a.cedar', 'permit (principal, action, resource)\nwhen { context.colour == "red" };\n', 2, /colour/],
  ['policies/access/a.cedar', '// a comment\npermit (principal action, resource);\n', 2, /./],
  [
    'policies/access/a.cedar',
    '@id("same")\npermit (principal, action, resource);\n@id("same")\nforbid (principal, action, resource);\n',
    3,
    /same/,
  ],
  ['policies/access/a.cedar', 'permit (principal == ?principal, action, resource);\n', 1, /template/],
]

describe('mistakes in files', () => {
  it('the files without mistakes have no problems', async () => {
    expect(await check({})).toEqual([])
  })

  it('settings that are all comments are the defaults', async () => {
    expect(await check({ 'deputy.yaml': '# nothing\n' })).toEqual([])
  })

  it("a provider without an authorization endpoint is for servers, and for no user's grant", async () => {
    const provider = 'provider: own\nname: Own\ntoken_endpoint: https://own.example/token\n'
    const client = 'provider: own\nclient: { client_id: x }\n'
    expect(
      await check({
        'providers/own.yaml': provider,
        'downstreams/own.yaml': `downstream: own\ncredential: client_credentials\n${client}`,
      }),
    ).toEqual([])
    expect(
      await check({
        'providers/own.yaml': provider,
        'downstreams/own.yaml': `downstream: own\ncredential: oauth_grant\n${client}`,
      }),
    ).toEqual([
      expect.objectContaining({ line: 3, message: expect.stringContaining('authorization_endpoint') as string }),
    ])
  })

  it('promise 9: tokens that are bound need the proxy, and go into one header', async () => {
    const provider = (dpop: string): string =>
      `provider: own\nname: Own\ntoken_endpoint: https://own.example/token\ndpop: ${dpop}\n`
    const own = (inject = ''): string =>
      `downstream: own\ncredential: client_credentials\nprovider: own\nclient: { client_id: x }\n${inject}`
    const inject = (as: string, only = false): string =>
      own(`inject:\n  hosts: [https://api.example]\n  as: ${as}\n  only: ${only}\n`)
    const header = "{ header: Authorization, value: 'DPoP {credential}' }"
    const problems = async (dpop: string, downstream: string): Promise<string[]> =>
      (await check({ 'providers/own.yaml': provider(dpop), 'downstreams/own.yaml': downstream })).map(
        ({ line, message }) => `${line} ${message.split(/[:,]/)[0]!.slice(0, 60)}`,
      )
    expect(await problems('required', inject(header))).toEqual([])
    expect(await problems('required', own())).toEqual(["3 Tokens of own are bound to a key of Deputy's (dpop"])
    expect(await problems('required', inject('{ query: key }'))).toEqual([
      '7 A token that is bound to a key goes into the header Authoriz',
    ])
    expect(await problems('offered', own())).toEqual([])
    expect(await problems('offered', inject('{ query: key }'))).toEqual([])
    expect(await problems('offered', inject('{ query: key }', true))).toHaveLength(1)
    expect(await problems('required\nanswers: { token_type: bearer }', inject(header))).toContain('4 dpop')
  })

  it('promise 9: a client that is known by its document has a name, https, and no secret', async () => {
    const own = (
      client: string,
      authentication = 'private_key_jwt',
      settings = 'connect_url: https://deputy.example\n',
      other = authentication,
    ) =>
      check({
        'deputy.yaml': `environment: test\n${settings}`,
        'tenants/globex.yaml': {
          tenant: 'globex',
          issuers: [{ issuer: 'https://idp.example', claims: { tenant: { claim: 'org', value: 'globex' } } }],
        },
        'providers/own.yaml': `provider: own\nname: Own\ntoken_endpoint: https://own.example/token\nclient_authentication: ${authentication}\n`,
        'providers/other.yaml': `provider: other\nname: Other\ntoken_endpoint: https://other.example/token\nclient_authentication: ${other}\n`,
        'downstreams/other.yaml': `downstream: other\ncredential: client_credentials\nprovider: other\nclient: { client_id: "https://deputy.example/clients/shared" }\n`,
        'downstreams/own.yaml': `downstream: own\ncredential: client_credentials\nprovider: own\nclient:\n  client_id: ${client}\n`,
      })
    const told = async (...given: Parameters<typeof own>): Promise<string[]> =>
      (await own(...given)).map(({ file, line, message }) => `${file}:${line} ${message.slice(0, 40)}`)
    expect(await told('https://deputy.example/clients/notes')).toEqual([])
    expect(await told('https://elsewhere.example/clients/notes')).toEqual([])
    expect(await told('https://deputy.example/clients/')).toEqual([
      'downstreams/own.yaml:5 There is no document of a client at http',
    ])
    expect(await told('https://deputy.example/clients/a/b')).toHaveLength(1)
    expect(await told('https://deputy.example/clients/notes\n  private_key: { file: x }')).toEqual([
      expect.stringMatching(/^downstreams\/own\.yaml:5 A client that is known by its document/),
    ])
    expect(await told('https://deputy.example/clients/notes', 'client_secret_basic', undefined, 'none')).toEqual([
      expect.stringMatching(/^downstreams\/own\.yaml:5 A client that is known by its document/),
    ])
    expect(await told('http://127.0.0.1:7880/clients/notes', 'none', '')).toEqual([
      'downstreams/own.yaml:5 Providers read documents of clients over',
    ])
    expect(await told('https://deputy.example/clients/shared', 'private_key_jwt', undefined, 'none')).toEqual([
      expect.stringContaining('The document of the client'),
    ])
  })

  for (const [file, text, line, words] of mistakes) {
    it(`promise 9: ${file} with ${JSON.stringify(text.replace(notes, '…').slice(0, 60))} is told with line ${line} and what to write`, async () => {
      const problems = await check({ [file]: text })
      const found = problems.find((problem) => problem.file === file && words.test(problem.message))
      expect(found, JSON.stringify(problems)).toMatchObject({ line })
      expect(found!.fix.length).toBeGreaterThan(10)
    })
  }

  it('promise 9: a secret in the place of a reference to it is not repeated, and the fix shows a reference', async () => {
    const problems = await check({
      'tenants/hub.yaml':
        'tenant: hub\nissuers: [{ issuer: https://hub.example }]\nsign_in:\n  issuer: https://hub.example\n  client_id: c\n  client_secret: hunter2\n',
    })
    expect(problems).toEqual([
      expect.objectContaining({ line: 6, fix: 'Write a secret reference, such as { file: secrets/sign-in }.' }),
    ])
    expect(JSON.stringify(problems)).not.toContain('hunter2')
  })

  it('every mistake is told, not the first alone', async () => {
    const problems = await check({
      'tenants/acme.yaml': 'tenant: ACME\nbad: 1\n',
      'servers/notes.yaml': 'server: notes\n',
      'policies/access/a.cedar': 'permit',
    })
    expect(new Set(problems.map(({ file }) => file))).toEqual(new Set(['tenants/acme.yaml', 'servers/notes.yaml']))
    expect(problems.length).toBeGreaterThan(3)
  })

  it('promise 9: no text makes the reader of YAML throw, and what it refuses has a line of the file', () => {
    const schema = z.strictObject({ a: z.string(), b: z.array(z.number()).optional() })
    const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]\n`
    const lines = (text: string): number => text.split('\n').length
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.constantFrom(
            bomb,
            '__proto__: {a: 1}',
            'a: *x',
            '? [a]\n: 1',
            '&a [*a]',
            'a: !!js/function x',
            '\t',
            '---\n---\n',
          ),
        ),
        (text) => {
          const { problems, values } = parseYamlFile('f.yaml', text, schema)
          for (const { line } of problems) expect(line).toBeLessThanOrEqual(lines(text) + 1)
          expect(problems.length + values.length).toBeGreaterThanOrEqual(1)
        },
      ),
      { numRuns: 500 },
    )
  })
})
