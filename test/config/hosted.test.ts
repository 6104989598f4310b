/** Mistakes in the file of a server that Deputy hosts: each has its line, and says what to write. */
import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { checkFolder, readFolder } from '../support/check.ts'

const document = JSON.stringify({
  openapi: '3.1.1',
  info: { title: 'Billing', version: '1' },
  servers: [{ url: 'https://billing.example/v1' }],
  components: { securitySchemes: { o: { type: 'oauth2', flows: {} } } },
  paths: { '/invoices': { get: { operationId: 'list', security: [{ o: ['read'] }] } } },
})
const sha256 = createHash('sha256').update(document).digest('hex')
const api = (id: string): object => ({
  [`apis/${id}.openapi.json`]: document,
  [`apis/${id}.yaml`]: `api: ${id}\ndownstream: billing\ndocument: { file: ${id}.openapi.json, sha256: ${sha256} }\ntools:\n  - operation: list\n`,
})

/** @param more the lines after the first five */
const files = (
  more: string,
  settings = 'listen: { mcp: 127.0.0.1:7999 }\n',
  resource = 'https://mcp.example/billing',
) => ({
  'deputy.yaml': settings,
  'downstreams/billing.yaml':
    'downstream: billing\ncredential: static\nsecret: key\nscopes: { read: Read }\ninject: { hosts: [https://billing.example], as: { header: X-Key } }\n',
  ...api('billing'),
  ...api('shipping'),
  'servers/tools.yaml': `server: tools\nresource: ${resource}\ntenants: '*'\nowner: me@example.com\nstatus: approved\n${more}`,
})

const GOOD = 'apis:\n  - api: billing\ndownstreams: { billing: { scopes: [read] } }\n'

const rows: readonly [string, number, RegExp][] = [
  ['apis:\n  - api: biling\n', 7, /There is no API biling\..*Did you mean 'billing'/],
  [`${GOOD}attest: [{ unix: { uid: 1 } }]\n`, 9, /Deputy itself is the server tools.*Remove `attest`/],
  [
    'apis:\n  - api: billing\n  - api: shipping\ndownstreams: { billing: { scopes: [read] } }\n',
    8,
    /The tool list exists twice, in billing and in shipping\..*prefix/,
  ],
  ['apis:\n  - api: billing\n', 1, /Tools of tools use billing, for which the server is not registered\..*Add billing/],
  [
    'apis:\n  - api: billing\ndownstreams: { billing: {} }\n',
    8,
    /need scopes of billing for which the server is not registered: read\./,
  ],
  [`${GOOD}tools: { lst: {} }\n`, 9, /None of the APIs of tools has a tool lst\..*Did you mean 'list'/],
  ['apis:\n  - api: billing\n    prefix: "a b"\n', 8, /a prefix is/],
]

const said = async (given: Parameters<typeof checkFolder>[0]) =>
  (await checkFolder(given)).map(({ file, line, message, fix }) => ({ file, line, text: `${message} ${fix}` }))

describe('promise 9: the file of a server that Deputy hosts', () => {
  for (const [more, line, message] of rows)
    it(`${JSON.stringify(more)}: ${message.source}`, async () => {
      expect(await said(files(more))).toContainEqual({
        file: 'servers/tools.yaml',
        line,
        text: expect.stringMatching(message),
      })
    })

  it('a server that no client can reach is a mistake, and so is a resource that is no URL', async () => {
    expect(await said(files(GOOD, 'environment: test\n'))).toContainEqual(
      expect.objectContaining({
        text: expect.stringMatching(/No client can reach the tools of tools\. Set listen\.mcp/),
      }),
    )
    expect(await said(files(GOOD, undefined, 'urn:example:tools'))).toContainEqual(
      expect.objectContaining({ text: expect.stringMatching(/not the URL of an MCP endpoint/) }),
    )
  })

  it('several APIs of one server keep their names apart by a prefix, and the exchange knows the tools', async () => {
    const { problems, snapshot } = await readFolder(
      files(
        'apis:\n  - api: billing\n  - api: shipping\n    prefix: ship_\ndownstreams: { billing: { scopes: [read] } }\ntools: { ship_list: { requires: [extra] } }\n',
      ),
    )
    expect(problems).toEqual([])
    expect([...snapshot!.hosted.get('tools')!.keys()]).toEqual(['list', 'ship_list'])
    expect(snapshot!.servers.get('tools')!.tools).toMatchObject({
      list: { downstream: 'billing', scopes: ['read'], requires: [] },
      ship_list: { downstream: 'billing', scopes: ['read'], requires: ['extra'] },
    })
  })
})
