/** Where requests go. */
import { describe, expect, it } from 'vitest'
import { compileApi, upgradeDocument } from '../../src/openapi/index.ts'
import { anApi } from '../support/openapi-documents.ts'
import { aDocument } from '../support/openapi-tools.ts'

const source = 'https://docs.example.com/api/openapi.json'

/** The document's servers, what the file says, the server of the operation, and the URL of its request; undefined: no tool. */
const rows: readonly [string, unknown, Parameters<typeof anApi>[0], unknown, string | undefined][] = [
  ['a whole URL', [{ url: 'https://api.example.com/v1/' }], {}, undefined, 'https://api.example.com/v1/a'],
  [
    'the first that stands by itself',
    [{ url: '/v1' }, { url: 'https://api.example.com' }],
    {},
    undefined,
    'https://api.example.com/a',
  ],
  [
    'defaults of variables',
    [{ url: 'https://{region}.example.com/{v}', variables: { region: { default: 'eu' }, v: { default: 'v2' } } }],
    {},
    undefined,
    'https://eu.example.com/v2/a',
  ],
  [
    'variables of the file',
    [{ url: 'https://{region}.example.com', variables: { region: { default: 'eu' } } }],
    { variables: { region: 'us' } },
    undefined,
    'https://us.example.com/a',
  ],
  ['variables without a value', [{ url: 'https://{region}.example.com' }], {}, undefined, undefined],
  ['relative to the source', [{ url: '../v1' }], { document: { source } }, undefined, 'https://docs.example.com/v1/a'],
  ['relative without a source', [{ url: '/v1' }], {}, undefined, undefined],
  ['none, with a source', undefined, { document: { source } }, undefined, 'https://docs.example.com/a'],
  ['none, with a file as source', undefined, { document: { source: './openapi.json' } }, undefined, undefined],
  [
    'base_url',
    [{ url: 'https://api.example.com/v1' }],
    { base_url: 'https://test.example.com/x/' },
    undefined,
    'https://test.example.com/x/a',
  ],
  [
    'base_url, and a server of its own below that of the document',
    [{ url: 'https://api.example.com/v1' }],
    { base_url: 'https://test.example.com/x' },
    [{ url: 'https://api.example.com/v1/b' }],
    'https://test.example.com/x/b/a',
  ],
  [
    'base_url, and a server of its own in a document without one',
    undefined,
    { base_url: 'https://test.example.com' },
    [{ url: 'https://api.example.com' }],
    'https://test.example.com/a',
  ],
  [
    'a server of its own at another port',
    [{ url: 'https://api.example.com' }],
    {},
    [{ url: 'https://api.example.com:8443' }],
    undefined,
  ],
  [
    'a server of its own over http',
    [{ url: 'https://api.example.com' }],
    {},
    [{ url: 'http://api.example.com' }],
    undefined,
  ],
  ['a URL with a user', [{ url: 'https://u:p@api.example.com' }], {}, undefined, undefined],
  ['another scheme', [{ url: 'ftp://api.example.com' }], {}, undefined, undefined],
]

describe('servers', () => {
  for (const [what, servers, given, own, expected] of rows)
    it(what, async () => {
      const operation = { operationId: 'a', ...(own === undefined ? {} : { servers: own }) }
      const document = await upgradeDocument(aDocument({ '/a': { get: operation } }, { servers }), 'x')
      const { tools } = compileApi(anApi({ tools: [{ path: '/a' }], ...given }), document)
      expect(tools.map(({ operation: { origin, path } }) => origin + path)).toEqual(
        expected === undefined ? [] : [expected],
      )
    })
})
