/** `server add`, `downstream add`, `provider add`, `tenant add`, `issuer add|remove`: one new file or none, in a folder that stays in order. */
import { generateKeyPairSync } from 'node:crypto'
import { chmod, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { parse } from 'yaml'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { exit } from '../../src/cli/terminal.ts'
import { runAnswering } from '../support/answering.ts'
import { prepareDaemon, prepareDaemonHere, type RunningDaemon } from '../support/daemon.ts'

const ISSUER = 'https://login.acme.example'
const RESOURCE = 'https://notes.acme.example/mcp'

let home: Omit<RunningDaemon, 'start' | 'stop' | 'output'>
beforeEach(async () => {
  home = await prepareDaemon({ 'tenants/acme.yaml': { tenant: 'acme', issuers: [{ issuer: ISSUER }] } })
})
afterEach(() => home.close())

const filesOf = async (): Promise<string[]> =>
  (await readdir(home.home, { recursive: true, withFileTypes: true }))
    .filter((each) => !each.isDirectory())
    .map(({ parentPath, name }) => join(parentPath, name))
    .sort()
const read = async (file: string): Promise<unknown> => parse(await readFile(join(home.home, file), 'utf8'))
const addServer = (id: string, ...more: string[]) =>
  home.deputy('server', 'add', id, '--resource', `https://${id}.acme.example/mcp`, '--tenant', 'acme', ...more)

describe('the commands that add to the registry', () => {
  test('write a downstream of each kind, a server that uses them all, and say the next command', async () => {
    const kinds = {
      github: ['--provider', 'github', '--client-id', 'Ov23', '--client-secret-file', '-', '--scope', 'repo=Your code'],
      okta: ['--provider', 'okta', '--variable', 'host=dev.okta.com', '--client-id', 'x', '--client-secret-file', '-'],
      'entra-obo': [
        '--credential=entra_obo',
        '--provider=entra',
        '--variable=tenant=contoso.example',
        '--client-id=x',
        '--client-secret-file=-',
        '--scope=Mail.Read',
      ],
      robot: [
        '--credential',
        'client_credentials',
        '--provider',
        'github',
        '--client-id',
        'y',
        '--client-secret-file',
        '-',
      ],
      weather: ['--credential', 'api_key', '--host', 'https://api.weather.example'],
      login: ['--credential', 'basic', '--secret-name', 'login-of-acme', '--host', 'https://login.weather.example'],
      vault: ['--secret-name', 'x'],
      ledger: ['--resource', 'https://ledger.acme.example', '--scope', 'read,write', '--tenants', 'acme'],
    }
    const { runCli } = await import('../support/process.ts')
    for (const [id, options] of Object.entries(kinds)) {
      const { code, out } = await runCli(home.home, ['downstream', 'add', id, ...options], 'a secret\n')
      expect([id, code, out]).toEqual([
        id,
        exit.ok,
        expect.stringContaining(`downstreams/${id}.yaml is written.\nNext: `),
      ])
    }
    expect(await read('downstreams/weather.yaml')).toEqual({
      downstream: 'weather',
      credential: 'api_key',
      secret: 'weather',
      inject: { hosts: ['https://api.weather.example'], as: { header: 'Authorization', value: 'Bearer {credential}' } },
    })
    expect(await readFile(join(home.home, 'secrets/github-client'), 'utf8')).toBe('a secret\n')
    expect((await stat(join(home.home, 'secrets/github-client'))).mode & 0o777).toBe(0o600)
    const { publicKey } = generateKeyPairSync('ed25519')
    await writeFile(join(home.home, 'key.pem'), publicKey.export({ type: 'spki', format: 'pem' }))
    const added = await addServer(
      'notes',
      '--uid=root',
      `--public-key=${join(home.home, 'key.pem')}`,
      '--client-secret',
      '--approve',
      '--downstream',
      'github=repo',
      'ledger=read,write',
      'vault',
      'weather',
      'okta',
    )
    expect([added.code, added.err]).toEqual([exit.ok, ''])
    expect(added.out).toMatch(/shown this once: \S{20,}\nNext: deputy policy explain --server notes --tenant acme/)
    expect(await read('servers/notes.yaml')).toMatchObject({
      status: 'approved',
      attest: [
        { unix: { uid: 0 } },
        { private_key_jwt: { jwks: { keys: [{ alg: 'EdDSA' }] } } },
        { client_secret: {} },
      ],
      downstreams: { github: { scopes: ['repo'] }, vault: { scopes: [] } },
    })
    expect((await home.deputy('check')).code).toBe(exit.ok)
  })

  test('take back what brings a problem in, its secret as well', async () => {
    const before = await filesOf()
    const { runCli } = await import('../support/process.ts')
    for (const args of [
      ['server', 'add', 'notes', '--resource', RESOURCE, '--tenant', 'acm', '--owner', 'ops'],
      ['server', 'add', 'notes', '--resource', RESOURCE, '--tenant', 'acme', '--downstream', 'gihtub=repo'],
      [
        'downstream',
        'add',
        'github',
        '--provider',
        'github',
        '--client-id',
        'x',
        '--client-secret-file',
        '-',
        '--tenants',
        'acm',
      ],
      ['tenant', 'add', 'other', '--issuer', ISSUER, '--offline'],
    ]) {
      const { code, out, err } = await runCli(home.home, args, 'a secret\n')
      expect([args[2], code, out]).toEqual([args[2], exit.configuration, ''])
      expect(err).toContain('.yaml was taken back, because of problems from this change:')
    }
    expect(await filesOf()).toEqual(before)
  })

  test('refuse what exists, and name what is near', async () => {
    await addServer('notes')
    for (const args of [
      ['server', 'add', 'notes', '--resource', RESOURCE, '--tenant', 'acme'],
      ['tenant', 'add', 'acme', '--issuer', ISSUER],
    ])
      expect(await home.deputy(...args)).toMatchObject({ code: exit.failed, err: expect.stringContaining('already') })
    expect(await addServer('note')).toMatchObject({ code: exit.ok, err: 'A similar server exists: notes.\n' })
    expect(await home.deputy('issuer', 'add', ISSUER, '--tenant', 'acme')).toMatchObject({
      code: exit.failed,
      err: expect.stringContaining('acme trusts https://login.acme.example already'),
    })
  })

  test.each([
    [['downstream', 'add', 'x'], /do not say which credential/],
    [['downstream', 'add'], /Name the downstream by/],
    [
      ['downstream', 'add', 'x', '--credential', 'aws_sts'],
      /has settings that no option describes[^]*configuration\.md/,
    ],
    [['downstream', 'add', 'x', '--credential', 'statc'], /no kind of credential statc\. Did you mean 'static'/],
    [
      ['downstream', 'add', 'x', '--provider', 'gihtub', '--client-id', 'x'],
      /no provider gihtub\. Did you mean 'github'/,
    ],
    [['downstream', 'add', 'x', '--provider', 'github'], /needs its client at GitHub/],
    [['downstream', 'add', 'x', '--provider', 'github', '--client-id', 'x'], /needs its secret, and none was given/],
    [['downstream', 'add', 'x', '--provider', 'okta', '--client-id', 'x'], /needs the variable host/],
    [['downstream', 'add', 'x', '--resource', 'nothing'], /needs its audience/],
    [['provider', 'add', 'gihtub'], /no provider file gihtub\. Did you mean 'github'/],
    [['provider', 'add', 'github'], /provider add github --client-id/],
    [['server', 'add', 'x', '--resource', 'urn:x', '--tenant', 'acme'], /cannot be the URL/],
    [['server', 'add', 'x', '--resource', RESOURCE, '--tenant', 'acme', '--approve'], /proves nothing/],
    [['server', 'add', 'x', '--resource', RESOURCE, '--tenant', 'acme', '--uid', 'no-such-user'], /no Unix user/],
    [['server', 'add', 'x', '--resource', RESOURCE, '--tenant', 'acme', '--uid', '-s'], /./],
    [
      ['server', 'add', 'x', '--resource', RESOURCE, '--tenant', 'acme', '--public-key', '/etc/passwd'],
      /no public key/,
    ],
    [['server', 'add', 'x', '--resource', RESOURCE, '--tenant', 'acme', '--service-account', 'a/b'], /cluster-issuer/],
    [['tenant', 'add', 'x', '--issuer', 'https://accounts.google.com'], /--tenant-claim hd=/],
  ])('say what is missing: %j', async (args, sentence) => {
    const before = await filesOf()
    const { code, err } = await home.deputy(...args)
    expect([code, err]).toEqual([exit.usage, expect.stringMatching(sentence)])
    expect(await filesOf()).toEqual(before)
  })

  test('of two at once, one makes a file, and no change of a file is lost', async () => {
    const both = await Promise.all([addServer('notes'), addServer('notes', '--name', 'Other')])
    expect(both.map(({ code }) => code).toSorted((one, other) => one - other)).toEqual([exit.ok, exit.failed])
    const issuers = Array.from({ length: 4 }, (_, at) => `https://idp${at}.acme.example`)
    const added = await Promise.all(
      issuers.map((issuer) => home.deputy('issuer', 'add', issuer, '--tenant', 'acme', '--offline')),
    )
    expect(added.map(({ code }) => code)).toEqual([exit.ok, exit.ok, exit.ok, exit.ok])
    const { issuers: written } = (await read('tenants/acme.yaml')) as { issuers: { issuer: string }[] }
    expect(written.map(({ issuer }) => issuer).sort()).toEqual([...issuers, ISSUER].sort())
  })

  test('issuer remove tells what uses an issuer, and asks before', async () => {
    await home.write({
      'tenants/acme.yaml': `# Ours\ntenant: acme\nissuers:\n  - issuer: ${ISSUER}\n  # The old one\n  - issuer: https://old.acme.example\nsign_in: { issuer: "${ISSUER}", client_id: deputy }\n`,
    })
    await addServer('notes')
    const old = ['issuer', 'remove', 'https://old.acme.example', '--tenant', 'acme']
    const asked = await home.deputy(...old)
    expect([asked.code, asked.out]).toEqual([exit.usage, expect.stringContaining('from users of acme: notes')])
    expect((await runAnswering(home.home, old, ['n'])).code).toBe(exit.usage)
    expect((await runAnswering(home.home, old, ['y'])).code).toBe(exit.ok)
    expect(await readFile(join(home.home, 'tenants/acme.yaml'), 'utf8')).toMatch(
      /^# Ours\ntenant: acme\nissuers:\n {2}- issuer: \S+\n(?!.*old)/,
    )
    expect(await home.deputy(...old)).toMatchObject({
      code: exit.failed,
      err: expect.stringContaining('does not trust'),
    })
    // What else names it keeps it from being removed.
    const last = await home.deputy('issuer', 'remove', ISSUER, '--tenant', 'acme', '--yes')
    expect([last.code, last.out]).toEqual([exit.configuration, expect.stringContaining('sign_in of acme')])
    expect(last.err).toContain('was taken back')
    expect(await readFile(join(home.home, 'tenants/acme.yaml'), 'utf8')).toContain(ISSUER)
  })

  test('threat 3: a secret that is typed is neither shown nor printed, and stands in a private file', async () => {
    const args = ['provider', 'add', 'github', '--client-id', 'Ov23', '--scope', 'repo']
    const { code, out, err, shown } = await runAnswering(home.home, args, ['hunter2-hunter2'])
    expect(code).toBe(exit.ok)
    expect(shown).toContain('Client secret (it is not shown): ')
    expect(`${out}${err}${shown}`).not.toContain('hunter2')
    expect(out).toMatch(/register the redirect URI at GitHub: http:\/\/127\.0\.0\.1:\d+\/connect\/callback/)
    expect(await readFile(join(home.home, 'secrets/github-client'), 'utf8')).toBe('hunter2-hunter2\n')
    expect((await stat(join(home.home, 'secrets/github-client'))).mode & 0o777).toBe(0o600)
  })

  test('files of a folder that a group may read can be read by the group, except for secrets', async () => {
    for (const folder of ['.', 'tenants']) await chmod(join(home.home, folder), 0o750)
    await mkdir(join(home.home, 'servers'), { mode: 0o750 })
    await chmod(join(home.home, 'servers'), 0o750)
    await runAnswering(
      home.home,
      ['tenant', 'add', 'other', '--issuer', 'https://o.example', '--offline', '--client-id', 'x'],
      ['secret'],
    )
    await addServer('notes')
    await home.deputy('server', 'approve', 'notes')
    const modes = ['tenants/other.yaml', 'servers/notes.yaml', 'secrets', 'secrets/other-sign-in'].map(async (file) =>
      ((await stat(join(home.home, file))).mode & 0o777).toString(8),
    )
    expect(await Promise.all(modes)).toEqual(['640', '640', '750', '600'])
  })

  test('whatever ids, URLs and scopes they take, the folder stays in order', async () => {
    const id = fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,62}$/)
    const url = fc.webUrl({ withQueryParameters: true }).map((text) => text.replace(/^http:/, 'https:'))
    const scope = fc.stringMatching(/^[\x21\x23-\x2b\x2d-\x3c\x3e-\x5b\x5d-\x7e]{1,40}$/)
    await fc.assert(
      fc.asyncProperty(
        id,
        id,
        id,
        url,
        url,
        scope,
        fc.string(),
        async (tenant, server, downstream, issuer, resource, name, owner) => {
          const place = await prepareDaemon({})
          try {
            for (const args of [
              ['tenant', 'add', tenant, '--issuer', issuer, '--offline', `--name=${owner}`],
              ['downstream', 'add', downstream, '--resource', resource, `--scope=${name}`],
              [
                'server',
                'add',
                server,
                '--resource',
                resource,
                '--tenant',
                tenant,
                `--owner=x${owner}`,
                '--downstream',
                `${downstream}=${name}`,
              ],
              ['check'],
            ])
              expect([args, await place.deputy(...args)]).toEqual([args, expect.objectContaining({ code: exit.ok })])
          } finally {
            await place.close()
          }
        },
      ),
      { numRuns: 4 },
    )
  })
})

describe('a daemon that runs', () => {
  test('gets an order to reload, and the command says that it has reloaded', async () => {
    const daemon = await prepareDaemonHere({ 'tenants/acme.yaml': { tenant: 'acme', issuers: [{ issuer: ISSUER }] } })
    try {
      await daemon.start()
      const { code, out } = await daemon.deputy('server', 'add', 'notes', '--resource', RESOURCE, '--tenant', 'acme')
      expect([code, out]).toEqual([
        exit.ok,
        expect.stringMatching(
          /is written, status proposed\.\nThe daemon has reloaded: configuration \d+ is active\.\nNext: /,
        ),
      ])
      expect((await daemon.deputy('status', '--json')).out).toMatch(/"servers": 1/)
    } finally {
      await daemon.close()
    }
  })
})
