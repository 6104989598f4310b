/** Mistakes in the file of an API: each has its line, and says what to write. */
import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { fingerprintsOf } from '../../src/config/fingerprints.ts'
import { aSnapshot } from '../support/snapshot.ts'
import { checkFolder, readFolder } from '../support/check.ts'
import { apiSchema } from '../../src/config/api.ts'

const document = JSON.stringify({
  openapi: '3.1.1',
  info: { title: 'Billing', version: '1' },
  servers: [{ url: 'https://billing.example/v1' }],
  components: { securitySchemes: { o: { type: 'oauth2', flows: {} } } },
  paths: {
    '/invoices': {
      get: {
        operationId: 'list',
        tags: ['invoices'],
        parameters: [{ name: 'q', in: 'query', schema: {} }],
        security: [{ o: ['read', 'extra'] }, { o: ['read'] }],
      },
      post: { operationId: 'create', tags: ['invoices'], security: [{ o: ['write'] }] },
    },
    '/uploads': { servers: [{ url: 'https://uploads.example' }], post: { operationId: 'upload' } },
    '/health': { get: { operationId: 'health' }, trace: { operationId: 'trace' } },
  },
})
const sha256 = createHash('sha256').update(document).digest('hex')

const files = (api: string, more: object = {}) => ({
  'downstreams/billing.yaml':
    'downstream: billing\ncredential: static\nsecret: key\nscopes: { read: Read }\ninject: { hosts: [https://billing.example], methods: [GET], paths: [/v1/invoices], as: { header: X-Key } }\n',
  'apis/billing.openapi.json': document,
  'apis/billing.yaml': `api: billing\ndownstream: billing\ndocument: { file: billing.openapi.json, sha256: ${sha256} }\n${api}`,
  ...more,
})

const rows: readonly [string, number, RegExp][] = [
  ['tools:\n  - operation: lst\n', 5, /The document has no operation lst\..*Did you mean 'list'/],
  ['tools:\n  - tag: invoice\n', 5, /No operation of the document has the tag invoice\..*'invoices'/],
  ['tools:\n  - path: /invoice\n', 5, /has the path \/invoice\./],
  ['tools:\n  - path: /invoices\n    methods: [DELETE]\n', 5, /and one of these methods/],
  ['tools:\n  - operation: list\n  - operation: GET /invoices\n', 6, /is named twice/],
  ['tools:\n  - operation: list\n    name: health\n  - operation: health\n', 7, /its name health is that of list too/],
  ['tools:\n  - operation: create\n', 5, /its method is POST, and billing puts its credential into GET/],
  ['tools:\n  - operation: create\n', 5, /needs the scope write, and billing has none/],
  ['tools:\n  - operation: health\n', 5, /its path is \/v1\/health/],
  [
    'tools:\n  - operation: upload\n',
    5,
    /upload \(\/paths\/~1uploads\/post\) cannot be a tool: Its server is https:\/\/uploads\.example.*inject\.hosts/,
  ],
  ['tools:\n  - operation: trace\n', 5, /TRACE is no method of a tool/],
  ['base_url: https://other.example\ntools:\n  - operation: list\n', 4, /its requests go to https:\/\/other\.example/],
  [
    'base_url: https://other.example\ntools:\n  - operation: list\n  - operation: health\n',
    4,
    /The tool list and 1 more: their requests go to https:\/\/other\.example/,
  ],
  ['tools:\n  - tag: invoices\n    methods: [get]\n', 6, /write the method in capitals/],
  ['tools:\n  - operation: list\n    parameters: { p: {} }\n', 5, /It has no parameter p\./],
  [
    'tools:\n  - operation: list\n    pagination: { by: page, parameter: page }\n',
    5,
    /Its pages are asked for by the parameter page/,
  ],
  ['tools:\n  - operation: list\n    slect: [/a]\n', 6, /slect is no known setting/],
  ['tools:\n  - operation: list\n    select: [a]\n', 6, /JSON pointer/],
  ['tols: []\n', 4, /tols is no known setting/],
]

const said = async (given: Parameters<typeof checkFolder>[0]) =>
  (await checkFolder(given)).map(({ file, line, message, fix }) => ({ file, line, text: `${message} ${fix}` }))

describe('promise 9: the file of an API', () => {
  for (const [api, line, message] of rows)
    it(`${JSON.stringify(api)}: ${message.source}`, async () => {
      expect(await said(files(api))).toContainEqual({
        file: 'apis/billing.yaml',
        line,
        text: expect.stringMatching(message),
      })
    })

  it('takes what is right, with the scopes of the requirement that needs least', async () => {
    expect((await readFolder(files('tools:\n  - operation: list\n'))).problems).toEqual([])
    expect((await readFolder(files('scopes: { write: read }\ntools:\n  - operation: list\n'))).problems).toEqual([])
  })

  it('needs a downstream with `inject`, and a document that is there, accepted and one', async () => {
    const of = async (more: object) =>
      (await said(files('tools: []\n', more))).map(({ line, text }) => `${line}: ${text}`).join('\n')
    expect(await of({ 'downstreams/billing.yaml': 'downstream: billing\ncredential: static\nsecret: key\n' })).toMatch(
      /^2: billing has no `inject`/,
    )
    expect(await of({ 'downstreams/billing.yaml': 'downstream: bill\ncredential: static\nsecret: key\n' })).toMatch(
      /^2: There is no downstream billing\..*bill/,
    )
    expect(await of({ 'apis/billing.openapi.json': `${document} ` })).toMatch(
      /^3: .*is not the document that was accepted.*deputy api accept billing/,
    )
    expect(await of({ 'apis/billing.openapi.json': { linkTo: '/nowhere' } })).toMatch(
      /^3: There is no file apis\/billing\.openapi\.json/,
    )
    const pinned = (text: string) => ({
      'apis/billing.openapi.json': text,
      'apis/billing.yaml': `api: billing\ndownstream: billing\ndocument: { file: billing.openapi.json, sha256: ${createHash('sha256').update(text).digest('hex')} }\n`,
    })
    expect(await of(pinned('{'))).toMatch(/^3: .*is no JSON/)
    expect(await of(pinned('{"openapi":"3.0.0","paths":{}}'))).toMatch(/^3: .*is not in OpenAPI 3\.1/)
    expect(await of(pinned('{"openapi":"3.1.0","paths":{}}'))).toMatch(/^3: The document names no server.*base_url/)
  })

  it('is a part of what the nodes of a cluster compare', () => {
    const api = apiSchema.parse({ api: 'billing', downstream: 'billing', document: { file: 'a.json', sha256 } })
    const with_ = (apis: object) =>
      fingerprintsOf({ ...aSnapshot(), apis: new Map(Object.entries(apis)) as never }, {}).registry
    const all = [
      {},
      { billing: { api, tools: [] } },
      { billing: { api: { ...api, document: { ...api.document, sha256: '0'.repeat(64) } }, tools: [] } },
    ]
    expect(new Set(all.map(with_)).size).toBe(3)
    expect(with_({ billing: { api, tools: [{}] } })).toBe(with_({ billing: { api, tools: [] } }))
  })
})
