/** `deputy init`: what it asks and tests, and that it leaves a folder in order or nothing. */
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as fc from 'fast-check'
import { parse } from 'yaml'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { exit } from '../../src/cli/terminal.ts'
import { startIssuerDouble } from '../doubles/issuer.ts'
import { type CompanyIdp, startCompanyIdp } from '../peers/company-idp.ts'
import { CTRL_C, CTRL_D, runAnswering } from '../support/answering.ts'
import { runCli } from '../support/process.ts'

const RESOURCE = 'https://notes.acme.example/mcp'
const SECRET = 'hunter2-hunter2'

let idp: CompanyIdp
beforeAll(async () => {
  idp = await startCompanyIdp({ resources: [RESOURCE] })
})
afterAll(() => idp.close())

let folder: string
let home: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'deputy-init-'))
  home = join(folder, 'deputy')
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const isInOrder = async (counts: string): Promise<void> => {
  const { code, out } = await runCli(home, ['check', '--strict'])
  expect([code, out]).toEqual([exit.ok, expect.stringMatching(new RegExp(`^${home} is in order: ${counts}`))])
}
const read = async (file: string): Promise<unknown> => parse(await readFile(join(home, file), 'utf8'))
const init = (...options: string[]) => runCli(home, ['init', home, ...options])

/** Options of a whole folder but for those of the identity provider. */
const SERVER = ['--server=notes', `--resource=${RESOURCE}`, '--uid=root', '--owner=ops@acme.example']

describe('deputy init without a terminal', () => {
  test('without options, it writes a plain folder without warnings, and the next three commands', async () => {
    const { code, out, err } = await init()
    expect([code, err]).toEqual([exit.ok, ''])
    expect(out.split('\n').slice(1, -1)).toEqual([
      'Next:',
      `  deputy tenant add ID --issuer URL --home ${home}`,
      `  deputy server add ID --resource URL --tenant ID --uid USER --home ${home}`,
      `  deputy serve --home ${home}`,
    ])
    await isInOrder('0 tenants, 0 servers')
    expect(await runCli(home, ['policy', 'test'])).toMatchObject({
      code: exit.ok,
      out: expect.stringMatching(/^There are no examples.*\n0 passed, 0 failed\n$/) as string,
    })
    for (const [path, mode] of [
      ['.', 0o700],
      ['state', 0o700],
      ['state/kek', 0o600],
      ['deputy.yaml', 0o600],
    ] as const)
      expect([path, (await stat(join(home, path))).mode & 0o777]).toEqual([path, mode])
    // Uncommented, the example is the shipped one.
    const example = await readFile(join(home, 'policies/access/example.cedar'), 'utf8')
    const shipped = await readFile(new URL('../../policies/access/example.cedar', import.meta.url), 'utf8')
    const bare = (text: string): string => text.replaceAll(/^\/\/ ?/gm, '')
    expect(bare(example.split('\n').slice(1).join('\n'))).toBe(bare(shipped))
  })

  test('by options, it tests a real identity provider, and the folder has no warnings', async () => {
    await writeFile(join(folder, 'secret'), `${SECRET}\n`)
    const { code, out, err } = await init(
      '--tenant=acme',
      `--issuer=${idp.issuer}`,
      '--allow-loopback',
      '--client-id=deputy',
      ...SERVER,
      `--client-secret-file=${join(folder, 'secret')}`,
      '--provider=github',
      '--provider-client-id=Ov23',
      `--provider-client-secret-file=${join(folder, 'secret')}`,
      '--scope',
      'repo=Your repositories',
      'read:user',
    )
    expect([code, out]).toEqual([
      exit.ok,
      expect.stringContaining(`deputy policy explain --server notes --tenant acme`),
    ])
    expect(err).toMatch(/found keys: \d+ \(.*ES256.*\)\n {2}found users sign in at: http/)
    expect(out).toContain('Register at GitHub: http://127.0.0.1:7880/connect/callback')
    await isInOrder('1 tenant, 1 server, 1 downstream, 0 clients, 0 APIs, 1 policy')
    expect((await runCli(home, ['policy', 'test'])).out).toContain('2 passed, 0 failed')
    expect(await readFile(join(home, 'secrets/acme-sign-in'), 'utf8')).toBe(`${SECRET}\n`)
    expect((await stat(join(home, 'secrets/acme-sign-in'))).mode & 0o777).toBe(0o600)
    expect(await read('servers/notes.yaml')).toMatchObject({ status: 'approved', attest: [{ unix: { uid: 0 } }] })
  })

  test('says what is wrong, and leaves nothing', async () => {
    const issuer = await startIssuerDouble(Date.now, '/realms/acme')
    const cases: [string[], RegExp][] = [
      [[`--issuer=${issuer.url}/`, '--allow-loopback'], /names .*--allow-private/s],
      [[`--issuer=${issuer.url}-gone`, '--allow-loopback'], /404.*Add --offline/s],
      [[`--issuer=${issuer.url}`], /plain http/],
      [['--issuer=https://10.1.2.3'], /10\.1\.2\.3.*--allow-private RANGE/s],
      [['--issuer=https://x.example', '--allow-private=10.0.0.0'], /network\.allow_private.*address range/],
      [['--issuer=nothing'], /cannot be the URL of an identity provider/],
      [[], /--issuer URL is missing/],
      [['--offline', '--issuer=https://accounts.google.com'], /--tenant-claim hd=/],
      [['--offline', '--issuer=https://x.example', '--resource=https://x.example'], /server without an id/],
      [['--offline', '--issuer=https://x.example', '--server=notes'], /--resource URL is missing/],
      [['--offline', '--issuer=https://x.example', '--server=notes', `--resource=${RESOURCE}`], /--uid USER \(or/],
      [['--offline', '--issuer=https://x.example', ...SERVER, '--provider=gihtub'], /Did you mean 'github'/],
      [['--offline', '--issuer=https://x.example', ...SERVER, '--provider=okta'], /--variable host=VALUE is missing/],
      [['--offline', '--issuer=https://x.example', '--connect-url=http://deputy.example'], /plain http/],
      [['--offline', '--issuer=https://x.example', '--tenant=A B'], /cannot be the id of a tenant/],
    ]
    try {
      for (const [options, sentence] of cases) {
        const { code, err } = await init('--tenant=acme', ...options)
        expect([options, code, err]).toEqual([options, exit.usage, expect.stringMatching(sentence)])
      }
      expect(await init('--issuer=https://x.example')).toMatchObject({ code: exit.usage })
      // Problems that only the check of the folder finds.
      home = join(folder, 'x'.repeat(100))
      const long = await init('--tenant=acme', '--issuer=https://x.example', '--offline')
      expect([long.code, long.err]).toEqual([exit.configuration, expect.stringContaining('Nothing was written')])
      expect(await readdir(folder)).toEqual([])
    } finally {
      await issuer.close()
    }
  })

  test('of two at once, one writes the folder; one that exists stays as it is', async () => {
    const both = await Promise.all([init(), init('--tenant=acme', '--issuer=https://x.example', '--offline')])
    expect(both.map(({ code }) => code).toSorted((one, other) => one - other)).toEqual([exit.ok, exit.failed])
    expect((await readdir(folder)).length).toBe(1)
    expect((await init()).err).toContain('is a configuration folder already')
    home = join(folder, 'other')
    await mkdir(home)
    await writeFile(join(home, 'README.md'), 'Ours.')
    expect((await init()).code).toBe(exit.ok)
    expect(await readFile(join(home, 'README.md'), 'utf8')).toBe('Ours.')
  })

  test('a stop while the files are written leaves what was there before', async () => {
    const { writeHome } = await import('../../src/cli/init/new-home.ts')
    const stop = new AbortController()
    const files = [
      { path: 'deputy.yaml', text: 'x' },
      { path: 'state/kek', text: 'x' },
      {
        get path(): string {
          stop.abort(new Error('stopped'))
          return 'tenants/README.md'
        },
        text: 'x',
      },
      { path: 'never', text: 'x' },
    ]
    await expect(writeHome(join(folder, 'a/b'), files, stop.signal)).rejects.toThrow('stopped')
    expect(await readdir(folder)).toEqual([])
    await mkdir(home)
    await writeFile(join(home, 'README.md'), 'Ours.')
    await expect(writeHome(home, files, stop.signal)).rejects.toThrow('stopped')
    expect(await readdir(home)).toEqual(['README.md'])
  })

  test('whatever ids, URLs and names it takes, the folder has neither problems nor warnings', async () => {
    const id = fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,62}$/)
    const url = fc.webUrl({ withQueryParameters: true }).map((text) => text.replace(/^http:/, 'https:'))
    const text = fc.string({ minLength: 1 }).filter((each) => each.trim() !== '')
    const scope = fc.stringMatching(/^[\x21\x23-\x2b\x2d-\x3c\x3e-\x5b\x5d-\x7e]{1,40}$/)
    await fc.assert(
      fc.asyncProperty(
        id,
        id,
        url,
        url,
        text,
        text,
        scope,
        async (tenant, server, issuer, resource, name, client, asked) => {
          const { code, err } = await init(
            `--tenant=${tenant}`,
            `--tenant-name=${name}`,
            `--issuer=${issuer}`,
            '--offline',
            `--server=${server}`,
            `--resource=${resource}`,
            `--owner=${name}`,
            '--uid=4711',
            `--client-id=${client}`,
            '--provider=auth0',
            '--variable=host=acme.eu.auth0.com',
            `--provider-client-id=${client}`,
            `--provider-client-secret-file=${import.meta.filename}`,
            `--scope=${asked}`,
            `--connect-url=${new URL(issuer).origin}`,
          )
          expect([code, err]).toEqual([exit.ok, ''])
          await isInOrder('1 tenant')
          await rm(home, { recursive: true })
        },
      ),
      { numRuns: 6 },
    )
  })
})

describe('deputy init at a terminal', () => {
  test('asks, tells what is wrong, shows what it finds, and writes a folder in order', async () => {
    const { code, out, err, shown } = await runAnswering(
      folder,
      ['init', home],
      [
        'A B',
        'acme',
        'Acme',
        '',
        'nothing',
        `${idp.issuer}/x`,
        'y',
        'n',
        idp.issuer,
        'y',
        'deputy',
        SECRET,
        'notes',
        'urn:x',
        RESOURCE,
        '',
        'what',
        'user',
        'no-such-user',
        'root',
        'gihtub',
        'github',
        'Ov23',
        SECRET,
        'repo, read:user',
      ],
    )
    expect([code, out]).toEqual([exit.ok, expect.stringContaining('is ready')])
    for (const words of [
      'cannot be the id of a tenant',
      'cannot be the URL',
      'no Unix user',
      "Did you mean 'github'",
      'found keys',
    ])
      expect(err).toContain(words)
    expect(`${out}${err}${shown}`).not.toContain(SECRET)
    await isInOrder('1 tenant, 1 server, 1 downstream, 0 clients, 0 APIs, 1 policy')
    expect(await read('tenants/acme.yaml')).toEqual({
      tenant: 'acme',
      name: 'Acme',
      issuers: [{ issuer: idp.issuer }],
      sign_in: { issuer: idp.issuer, client_id: 'deputy', client_secret: { file: 'secrets/acme-sign-in' } },
    })
    expect(await readFile(join(home, 'secrets/github-client'), 'utf8')).toBe(`${SECRET}\n`)
  })

  test('no answer is the plain folder', async () => {
    expect((await runAnswering(folder, ['init', home], [''])).code).toBe(exit.ok)
    await isInOrder('0 tenants')
  })

  test.each([
    ['Ctrl-C', CTRL_C],
    ['Ctrl-D', CTRL_D],
  ])('%s leaves nothing behind', async (_, key) => {
    const answers = ['acme', 'Acme', '', 'https://192.0.2.1', key]
    const { code, err } = await runAnswering(folder, ['init', home, '--allow-private=192.0.2.0/24'], answers)
    expect([code, err]).toEqual([exit.interrupted, expect.stringContaining('Stopped: nothing was written.')])
    expect(await readdir(folder)).toEqual([])
  })
})
