/** `deputy api`: documents become files, and another document says what it changes. */
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { loadConfiguration } from '../../src/config/load.ts'
import { runCli } from '../support/process.ts'

const shippedProviders = new URL('../../providers', import.meta.url).pathname
let home: string
let server: Server
let origin: string
/** What the server answers, by path; a text that begins with http is a redirect. */
const pages = new Map<string, string>()
const asked: string[] = []

const text = (value: unknown): string => JSON.stringify(value)
const operation = (id: string, more: object = {}): object => ({
  operationId: id,
  tags: ['invoices'],
  responses: {
    200: {
      description: '',
      content: { 'application/json': { schema: { type: 'object', properties: { id: { type: 'string' } } } } },
    },
  },
  ...more,
})
const aDocument = (paths: object = { '/invoices': { get: operation('list'), post: operation('create') } }): object => ({
  openapi: '3.1.1',
  info: { title: 'Billing', version: '1' },
  servers: [{ url: 'https://billing.example/v1' }],
  paths,
})

const write = async (file: string, content: string): Promise<string> => {
  await mkdir(dirname(join(home, file)), { recursive: true })
  await writeFile(join(home, file), content)
  return join(home, file)
}
const deputy = (...args: string[]) => runCli(home, args)
const add = (spec: string, ...more: string[]) =>
  deputy('api', 'add', 'billing', '--spec', spec, '--downstream', 'billing', ...more)
const load = () => loadConfiguration({ home, shippedProviders, generation: 1 })

beforeAll(async () => {
  server = createServer((request, response) => {
    asked.push(request.url!)
    const page = pages.get(request.url!)
    if (page === undefined) response.writeHead(404).end()
    else if (page.startsWith('http')) response.writeHead(302, { location: page }).end()
    else response.end(page)
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(() => server.close())
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'deputy-api-'))
  pages.clear()
  asked.length = 0
  await write('deputy.yaml', 'environment: test\nnetwork: { allow_loopback: true }\n')
  await write('tenants/acme.yaml', 'tenant: acme\n')
  await write(
    'downstreams/billing.yaml',
    'downstream: billing\ncredential: static\nsecret: key\nscopes: { read: Read }\ninject: { hosts: [https://billing.example], as: { header: X-Key } }\n',
  )
  return () => rm(home, { recursive: true, force: true })
})

describe('deputy api', () => {
  it('adds an API, lists its operations, and says what another document changes', async () => {
    const spec = await write('spec.json', text(aDocument()))
    expect(await add(spec)).toMatchObject({ code: 0, out: expect.stringContaining('2 operations; 2 can be tools.') })
    expect((await load()).snapshot?.apis.get('billing')?.tools).toEqual([])
    await write(
      'apis/billing.yaml',
      (await readFile(join(home, 'apis/billing.yaml'), 'utf8')).replace(
        'tools: []',
        'tools: [{ tag: invoices }] # mine',
      ),
    )
    const tools = await deputy('api', 'tools', 'billing')
    expect(tools.out).toMatch(/^list\s+yes\s+reads\s+GET \/invoices\s+invoices\s+-$/m)
    expect(tools.out).toMatch(/^create\s+yes\s+changes\s+POST \/invoices/m)
    expect(JSON.parse((await deputy('api', 'tools', 'billing', '--show', 'list')).out)).toMatchObject({
      name: 'list',
      request: 'GET https://billing.example/v1/invoices',
    })
    expect((await deputy('api', 'list')).out).toMatch(/^billing\s+billing\s+2\s/m)

    const next = await write(
      'next.json',
      text(
        aDocument({
          '/invoices': {
            get: operation('list', {
              parameters: [{ name: 'year', in: 'query', required: true, schema: { type: 'integer' } }],
            }),
          },
        }),
      ),
    )
    const diff = await deputy('api', 'diff', 'billing', '--spec', next, '--strict')
    expect(diff.code).toBe(1)
    expect(diff.out).toMatch(/^create\s+gone\s+yes/m)
    expect(diff.out).toMatch(/^list\s+changed\s+yes\s+argument \/year: it is required \(!\)/m)
    expect((await load()).snapshot?.apis.get('billing')?.tools.length).toBe(2)

    expect(await deputy('api', 'accept', 'billing', '--spec', next)).toMatchObject({ code: 0 })
    const file = await readFile(join(home, 'apis/billing.yaml'), 'utf8')
    expect(file).toContain('# mine')
    expect(parse(file)).toMatchObject({ document: { source: next } })
    expect((await load()).snapshot?.apis.get('billing')?.tools.map(({ name }) => name)).toEqual(['list'])
    expect((await deputy('api', 'diff', 'billing', '--strict')).out).toBe('No tool changes.\n')

    // A relative path begins at the working folder, and in the file at the configuration folder.
    expect(await deputy('api', 'accept', 'billing', '--spec', relative(process.cwd(), next))).toMatchObject({ code: 0 })
    expect(parse(await readFile(join(home, 'apis/billing.yaml'), 'utf8'))).toMatchObject({
      document: { source: 'next.json' },
    })
    expect((await deputy('api', 'diff', 'billing', '--strict')).out).toBe('No tool changes.\n')
  })

  it('says where a document differs from OpenAPI, and nothing where it does not', async () => {
    const old = {
      swagger: '2.0',
      host: 'billing.example',
      schemes: ['https'],
      info: { title: 'x', version: '1' },
      paths: { '/a': { get: { responses: { 200: { description: '' } } } } },
    }
    expect((await add(await write('old.json', text(old)))).out).not.toContain('differs')
    await rm(join(home, 'apis'), { recursive: true })
    expect((await add(await write('old.json', text({ ...old, paths: { '/a': { get: {} } } })))).out).toContain(
      'The document differs from the OpenAPI specification in',
    )
  })

  it('a document that was changed in place is refused until it is accepted', async () => {
    await add(await write('spec.json', text(aDocument())), '--tags', 'invoices')
    const old = text({
      swagger: '2.0',
      host: 'billing.example',
      schemes: ['https'],
      basePath: '/v1',
      info: { title: 'x', version: '1' },
      paths: { '/a': { get: { operationId: 'a', tags: ['invoices'], responses: {} } } },
    })
    await write('apis/billing.openapi.json', old)
    const { snapshot, problems } = await load()
    expect(snapshot).toBeUndefined()
    expect(problems).toMatchObject([
      { file: 'apis/billing.yaml', line: 9, message: expect.stringContaining('is not the document that was accepted') },
    ])
    const accepted = await deputy('api', 'accept', 'billing')
    expect(accepted).toMatchObject({
      code: 0,
      out: expect.stringContaining('no longer in the folder, so the tools cannot be compared'),
    })
    expect((await load()).snapshot?.apis.get('billing')?.tools.map(({ name }) => name)).toEqual(['a'])
  })

  it('reads files beside the document, and those at its URL, as one document', async () => {
    const pet =
      'Pet:\n  type: object\n  properties:\n    owner: { $ref: "#/Owner" }\n    friend: { $ref: "pets.yaml#/Pet" }\nOwner: { type: string }\n'
    const item = `get:\n  operationId: pet\n  parameters:\n    - $ref: 'parameters.yaml#/Id'\n  responses:\n    '200':\n      description: x\n      content: { application/json: { schema: { $ref: 'pets.yaml#/Pet' } } }\n`
    const parameters =
      'Id: { name: id, in: path, required: true, schema: { $ref: "../spec.yaml#/components/schemas/Id" } }\n'
    const root = text({
      ...aDocument({ '/pets/{id}': { $ref: 'parts/item.yaml' } }),
      components: { schemas: { Id: { type: 'integer' } } },
    })
    await write('spec.yaml', root)
    for (const [name, content] of Object.entries({ item, pets: pet, parameters })) {
      await write(`parts/${name}.yaml`, content)
      pages.set(`/parts/${name}.yaml`, content)
    }
    pages.set('/spec.yaml', root)
    for (const spec of [join(home, 'spec.yaml'), `${origin}/spec.yaml`]) {
      await rm(join(home, 'apis'), { recursive: true, force: true })
      expect(await add(spec)).toMatchObject({ code: 0, err: '' })
      const { inputSchema, outputSchema } = JSON.parse(
        (await deputy('api', 'tools', 'billing', '--show', 'pet')).out,
      ) as Record<string, unknown>
      expect(inputSchema).toMatchObject({ properties: { id: { type: 'integer' } } })
      expect(outputSchema).toEqual({
        type: 'object',
        properties: { owner: { type: 'string' }, friend: { type: 'object', description: 'As Pet above.' } },
      })
    }
  })
})

describe('a document that is added', () => {
  const referring = (reference: string): string => text(aDocument({ '/a': { $ref: reference } }))

  it('promise 5: takes nothing from files elsewhere, by path, URL or link', async () => {
    await symlink('/etc/passwd', join(home, 'link.yaml'))
    for (const [reference, message] of [
      ['file:///etc/passwd', /\/etc\/passwd is outside of/],
      ['../../../../../../etc/passwd', /\/etc\/passwd is outside of/],
      ['link.yaml', /\/etc\/passwd is outside of/],
      ['file://server/share', /takes nothing from file:\/\/server/],
      ['http://169.254.169.254/latest/meta-data/', /takes nothing from http:\/\/169\.254\.169\.254/],
      [`${origin}/x`, /takes nothing from http:\/\/127\.0\.0\.1/],
      ['data:,a', /takes nothing from data:/],
    ] as const) {
      const { code, err } = await add(await write('spec.json', referring(reference)))
      expect({ reference, code }).toEqual({ reference, code: 1 })
      expect(err).toMatch(message)
      expect(err).toContain('/paths/~1a')
    }
    expect(asked).toEqual([])
  })

  it('threat 6: at a URL takes nothing from other origins or files, and is not where a redirect leads', async () => {
    for (const reference of [
      'file:///etc/passwd',
      'http://169.254.169.254/latest/meta-data/',
      'https://other.example/x',
      '//127.0.0.1:1/x',
    ]) {
      pages.set('/spec', referring(reference))
      const { code, err } = await add(`${origin}/spec`)
      expect({ reference, code }).toEqual({ reference, code: 1 })
      expect(err).toMatch(/takes nothing from/)
    }
    pages.set('/moved', `${origin}/spec`)
    expect(await add(`${origin}/moved`)).toMatchObject({
      code: 1,
      err: expect.stringContaining('answered with HTTP status 302 and leads to'),
    })
    pages.set('/spec', referring('/part'))
    pages.set('/part', 'http://169.254.169.254/latest/meta-data/')
    expect(await add(`${origin}/spec`)).toMatchObject({ code: 1, err: expect.stringContaining('302') })
    expect((await add('http://169.254.169.254/spec')).err).toMatch(/cannot be read/)
    expect(asked.filter((path) => path.includes('meta-data'))).toEqual([])
  })

  it('promise 9: that is wrong, or for a downstream that puts its credential nowhere, leaves no file', async () => {
    await write('downstreams/mail.yaml', 'downstream: mail\ncredential: static\nsecret: key\n')
    const spec = await write('spec.json', text(aDocument()))
    const relative = await write('relative.json', text({ ...aDocument(), servers: [{ url: '/v1' }] }))
    for (const [args, message] of [
      [['add', 'billing', '--spec', spec, '--downstream', 'mail'], /mail has no `inject`/],
      [['add', 'billing', '--spec', spec, '--downstream', 'biling'], /Did you mean 'billing'/],
      [['add', '../x', '--spec', spec, '--downstream', 'billing'], /cannot be the id of a REST API/],
      [['add', 'billing', '--spec', 'nowhere.json', '--downstream', 'billing'], /There is no file/],
      [['add', 'billing', '--spec', relative, '--downstream', 'billing'], /Add --base-url/],
      [['add', 'billing', '--spec', spec, '--downstream', 'billing', '--tags', 'invoice'], /Did you mean 'invoices'/],
      [['tools', 'nothing'], /There is no API 'nothing'/],
    ] as const) {
      const { code, err } = await deputy('api', ...args)
      expect(code).not.toBe(0)
      expect(err).toMatch(message)
    }
    await expect(readFile(join(home, 'apis/billing.yaml'))).rejects.toThrow(/ENOENT/)
    await expect(readFile(join(home, 'apis/billing.openapi.json'))).rejects.toThrow(/ENOENT/)
  })
})
