import { describe, expect, it } from 'vitest'
import { checkFolder, type Content } from '../support/check.ts'

const told = async (file: string, content: Content): Promise<string[]> =>
  (await checkFolder({ [file]: content }))
    .filter((problem) => problem.file === file)
    .map(({ line, message, fix }) => `${line}: ${message} ${fix}`)

const notes = 'server: notes\nresource: https://notes.example/mcp\nowner: o\nstatus: approved\n'

describe('fault 27: a value of the wrong type is told as what it is, with what to write', () => {
  it.each([
    ['deputy.yaml', 'listen:\n  socket_mode: 0660\n', /^2: .*number 0660.* "0660"/],
    [
      'deputy.yaml',
      'network: { allow_loopback: no }\n',
      /^1: .*text "no", not true or false\. Write allow_loopback: false\.$/,
    ],
    ['deputy.yaml', 'audit: { deadline: 30 }\n', /^1: audit\.deadline is the number 30.*500ms/],
    ['tenants/bond.yaml', 'tenant: 007\n', /^1: tenant is the number 007.*tenant: "007"/],
    [
      'servers/notes.yaml',
      `${notes}tenants: acme\n`,
      /^5: tenants is the text "acme"\. It can be "\*", or a list, for example tenants: \[acme\]\.$/,
    ],
    [
      'servers/notes.yaml',
      `${notes}tenants: [acme]\nattest: [{ unix: { uid: notes } }]\n`,
      /^6: attest\.0\.unix\.uid is the text "notes", not a number/,
    ],
    ['servers/notes.yaml', `${notes}tenants: [acme]\ntools: []\n`, /^6: tools is a list, not a group of settings/],
    ['tenants/acme.yaml', 'tenant: acme\nissuers: { issuer: x }\n', /^2: issuers is a group of settings, not a list/],
    ['tenants/acme.yaml', 'tenant: acme\nissuers:\n', /^2: issuers is empty, not a list/],
    ['servers/notes.yaml', notes.replace('approved', 'aproved'), /^4: status .*Did you mean 'approved'\?/],
    ['downstreams/x.yaml', 'downstream: x\ncredential: mintd\n', /^2: credential is "mintd".*Did you mean 'minted'\?/],
    ['deputy.yaml', 'audit:\n  deadlin: 3s\n', /^2: audit\.deadlin .*Did you mean 'deadline'\?/],
    ['servers/notes.yaml', `${notes}tenants: [acmee]\n`, /^5: There is no tenant acmee\. Did you mean 'acme'\?/],
    [
      'servers/notes.yaml',
      `${notes}tenants: [acme]\ndownstreams: { ledgr: {} }\n`,
      /^6: There is no downstream ledgr\. Did you mean 'ledger'\?/,
    ],
  ])('%s with %j', async (file, text, words) => {
    const lines = await told(file, text)
    expect(lines.join('\n')).not.toMatch(/is missing.*(socket_mode|allow_loopback|deadline|tenant:)/)
    expect(lines).toContainEqual(expect.stringMatching(words))
  })

  it('promise 5: does not repeat what may be a secret in the wrong place', async () => {
    const lines = await told('downstreams/own.yaml', {
      downstream: 'own',
      credential: 'client_credentials',
      provider: 'github',
      client: { client_id: 'x', client_secret: 'hunter2-hunter2' },
    })
    expect(lines.length).toBeGreaterThan(0)
    expect(lines.join('\n')).not.toContain('hunter2')
  })
})

describe('fault 30: what YAML or an editor leaves behind is refused with its line, or left out', () => {
  it('a second document in deputy.yaml', async () => {
    expect(await told('deputy.yaml', 'environment: test\n---\nenvironment: production\n')).toEqual([
      expect.stringMatching(/^3: A second YAML document begins here/),
    ])
  })
  it('tags, and variables that nothing fills in', async () => {
    expect(await told('tenants/x.yaml', 'tenant: !name x\n')).toEqual([
      expect.stringMatching(/^1: Unresolved tag: !name/),
    ])
    expect(await told('tenants/x.yaml', 'tenant: x\ndescription: ok\n')).toHaveLength(1)
    expect(await told('servers/notes.yaml', `${notes}tenants: [acme]\ndescription: of \${TEAM:-nobody}\n`)).toEqual([
      expect.stringMatching(/^6: \$\{TEAM:-nobody\} stands for itself here/),
    ])
  })
  it("variables of AWS policies are not taken for a shell's", async () => {
    const lines = await told('servers/notes.yaml', `${notes}tenants: [acme]\ndescription: home/\${aws:username}\n`)
    expect(lines).toEqual([])
  })
  it('bytes that are not UTF-8', async () => {
    const latin = Buffer.concat([Buffer.from('# ok\ntenant: caf'), Buffer.from([0xe9]), Buffer.from('\n')])
    expect(await told('tenants/x.yaml', latin)).toEqual([expect.stringMatching(/^2: It is not UTF-8 text/)])
    expect(await told('policies/access/x.cedar', latin)).toEqual([expect.stringMatching(/^2: It is not UTF-8 text/)])
  })
  it("an editor's lock is left out, and a link that leads nowhere is a problem", async () => {
    expect(await checkFolder({ 'tenants/.#acme.yaml': { linkTo: 'me@host.1234' } })).toEqual([])
    expect(await checkFolder({ 'policies/access/.#a.cedar': { linkTo: 'me@host.1234' } })).toEqual([])
    expect(await told('tenants/x.yaml', { linkTo: 'nowhere' })).toEqual([
      expect.stringMatching(/^1: It is a link to a file that does not exist/),
    ])
    expect(await told('tenants/x.yaml/inside', 'x')).toEqual([])
    expect((await checkFolder({ 'tenants/x.yaml/inside': 'x' })).map(({ message }) => message)).toEqual([
      'It is a folder, not a file.',
    ])
  })
})

describe('fault 31: what Node and the kernel will refuse is told before the start', () => {
  it.each([
    ['audit: { deadline: 0s }', /^1: audit\.deadline: write a length of time from 1ms to 24d/],
    ['audit: { deadline: 30d }', /^1: audit\.deadline: write a length of time from 1ms to 24d/],
    ['network: { timeout: 0ms }', /^1: network\.timeout: /],
    ['tokens: { lifetime: 0s }', /^1: tokens\.lifetime: write a length of time from 1s/],
    ['limits: { drain: 30d }', /^1: limits\.drain: /],
    ['limits: { header_timeout: 20s }', /^1: limits\.header_timeout: it is longer than request_timeout/],
    [`listen: { socket: /tmp/${'x'.repeat(110)} }`, /^1: The path of the socket listen\.socket has 115 bytes/],
    [`listen: { postgres: /tmp/${'x'.repeat(95)} }`, /^1: The path of the socket listen\.postgres has 114 bytes/],
    ['listen:\n  tcp: 127.0.0.1:7000\n  proxy: 127.0.0.1:7000', /^3: listen\.proxy has the address of listen\.tcp/],
  ])('deputy.yaml with %s', async (text, words) => {
    expect(await told('deputy.yaml', `${text}\n`)).toContainEqual(expect.stringMatching(words))
  })
})

describe('fault 39: a rotation policy that contradicts itself', () => {
  const policy = (when: object, more: object = {}): object => ({
    rotation: 'own',
    owner: 'o@example.com',
    secrets: { name: 'mail-key' },
    when,
    how: { rotator: 'command', command: 'own' },
    ...more,
  })
  it.each([
    [policy({ every: '30d', max_age: '7d' }), /max_age is below every/],
    [policy({ every: '30m' }), /grace is longer than the time between two rotations/],
    [policy({ every: '30d' }, { grace: '40d' }), /grace is longer/],
    [policy({ every: '1d', jitter: '2d' }), /jitter is longer than every/],
  ])('%j', async (file, words) => {
    expect(await told('policies/rotation/own.yaml', file)).toContainEqual(expect.stringMatching(words))
  })
})
